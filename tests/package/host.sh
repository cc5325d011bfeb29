#!/usr/bin/env bash
# Stands in for the programs of a host's administrator, where no systemd runs and nobody types: sudo, apt, nano, systemd-run and
# systemctl, by the name that it is started with. UNIT is the service's file, SERVICE_LOG takes its log, and ACCOUNT switches to its account.
set -euo pipefail

fails() { echo "$(basename "$0"): not understood: $*" >&2; exit 64; }

# as_service <file of variables> <program> [argument…]: as systemd starts it.
as_service() {
    local variables
    mapfile -t variables <"$1"
    # shellcheck disable=SC2086
    exec $ACCOUNT env -i PATH="$PATH" "${variables[@]}" "${@:2}"
}

case $(basename "$0") in
sudo) exec "$@" ;;
apt)
    [[ $# == 2 && $1 == install && $2 == ./* ]] || fails "$@"
    ${INSTALL:-true} "$2"
    ;;
nano) cat >"$1" ;;
systemd-run)
    file=
    while [[ $1 == --* ]]; do
        case $1 in
        --pipe | --uid=countersign) ;;
        --property=EnvironmentFile=*) file=${1#--property=EnvironmentFile=} ;;
        *) fails "$@" ;;
        esac
        shift
    done
    as_service "$file" "$@"
    ;;
systemctl)
    [[ $* == 'enable --now countersign' ]] || fails "$@"
    setting() { sed -n "s/^$1=-\?//p" "$UNIT"; }
    read -ra start <<<"$(setting ExecStart)"
    (cd "$(setting WorkingDirectory)" && as_service "$(setting EnvironmentFile)" "${start[@]}") >/dev/null 2>"$SERVICE_LOG" &
    echo $! >"$SERVICE_LOG.pid"
    ;;
*) fails "$@" ;;
esac
