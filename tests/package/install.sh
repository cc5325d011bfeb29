#!/usr/bin/env bash
# Installs the Debian package into the chroot that chroot.sh makes, starts its service as its user, and removes it again.
set -euo pipefail

inside() { chroot /mnt/root "$@"; }
as_user() { inside setpriv --reuid=countersign --regid=countersign --clear-groups --no-new-privs --bounding-set=-all \
    env -i PATH=/usr/bin:/bin "$@"; }
fails() { echo "FAILED: $*" >&2; exit 1; }
# is <what> <expected> <actual>
is() { [[ $2 == "$3" ]] || fails "$1: expected $2, not $3"; }
mode() { inside stat -c '%a %U:%G' "$1"; }

inside dpkg --install /countersign.deb

is 'files that differ from the package' '' "$(inside dpkg --verify countersign)"
is 'the state directory' '700 countersign:countersign' "$(mode /var/lib/countersign)"
is 'the configuration directory' '2750 root:countersign' "$(mode /etc/countersign)"
is 'the configuration' '640 root:countersign' "$(mode /etc/countersign/countersign.toml)"
is 'the configuration files of the package' ' /etc/countersign/countersign.toml' \
    "$(inside dpkg-query --show --showformat='${Conffiles}' countersign | sed '/^$/d; s/ [0-9a-f]*$//')"
for file in roles.sql slack.yaml countersign.schema.json; do inside test -r "/usr/share/countersign/$file"; done
inside bash -n /usr/share/bash-completion/completions/countersign
for command in '' -serve -run -check -init; do
    inside zgrep -q "^.TH countersign$command 1" "/usr/share/man/man1/countersign$command.1.gz"
done

unit=$(inside dpkg --listfiles countersign | grep '/countersign.service$')
is 'what systemd says of the unit' '' "$(inside systemd-analyze verify "$unit" 2>&1 | grep countersign || true)"
inside systemd-analyze verify "$unit"
# 10 is the worst; times ten.
inside systemd-analyze security --offline=yes --threshold=25 "$unit" >/dev/null || fails 'the unit is exposed'
is 'the user of the unit' countersign "$(sed -n 's/^User=//p' "/mnt/root$unit")"
read -ra start <<<"$(sed -n 's/^ExecStart=//p' "/mnt/root$unit")"

# The configuration of the package is an example: it is complete but for the secrets.
if as_user "${start[@]}" 2>/mnt/root/start.err; then fails 'a start without secrets'; fi
grep -q 'the variable `SLACK_BOT_TOKEN` is not set' /mnt/root/start.err || fails "$(cat /mnt/root/start.err)"

inside mv /etc/countersign/countersign.toml /etc/countersign/example.toml
inside countersign init --config /etc/countersign/countersign.toml --platform none --environment staging \
    --server 127.0.0.1:1 --service asset-service=asset_service_db --person ana </dev/null
is 'the new configuration' '640 root:countersign' "$(mode /etc/countersign/countersign.toml)"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
sed -i "s/^listen = .*/listen = \"127.0.0.1:$port\"/" /mnt/root/etc/countersign/countersign.toml
as_user countersign check --only host --config /etc/countersign/countersign.toml

as_user STAGING_READER_PASSWORD=x STAGING_OPERATOR_PASSWORD=x "${start[@]}" &
for _ in {1..100}; do
    answer=$(python3 -c "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:$port/healthz').read().decode())" \
        2>/dev/null) && break
    sleep 0.1
done
is 'the health of the service' ok "${answer-}"
is 'the audit log' '600 countersign:countersign' "$(mode /var/lib/countersign/countersign.db)"
is 'the backups' '700 countersign:countersign' "$(mode /var/lib/countersign/backups)"
kill -TERM "$(inside pgrep --uid "$(inside id -u countersign)" --exact countersign)"
wait %1 || fails "the service ended with $?"

inside dpkg --purge countersign
inside test ! -e /usr/bin/countersign
inside test -e /var/lib/countersign/countersign.db || fails 'the audit log was removed'
echo "the package installs, serves and is removed"
