#!/usr/bin/env bash
# Runs a program beside a chroot at /mnt/root, with a Debian package at its top: chroot.sh <package> <program> [argument…]
# The chroot is this machine's own system under an overlay, so that nothing outside of it changes; with the program it ends.
set -euo pipefail

if ((EUID != 0)); then echo 'the chroot needs root: sudo make deb' >&2; exit 1; fi
for tool in adduser dpkg python3 setpriv systemd-analyze unshare zgrep; do
    command -v "$tool" >/dev/null || { echo "$tool is missing" >&2; exit 1; }
done
if [[ ${IN_NAMESPACE-} != yes ]]; then IN_NAMESPACE=yes exec unshare --mount --mount-proc --pid --fork --kill-child "$0" "$@"; fi

mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
mount -t proc proc /mnt/root/proc
mount --rbind /dev /mnt/root/dev
cp "$1" /mnt/root/countersign.deb

# No service is started in a chroot.
printf '#!/bin/sh\nexit 101\n' >/mnt/root/usr/sbin/policy-rc.d
chmod +x /mnt/root/usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive
"${@:2}"
