#!/usr/bin/env bash
# Writes the manual pages and completions of a program: pages.sh <program> <directory>
set -euo pipefail

program=$1 directory=$2
rm -rf "$directory"
mkdir -p "$directory/man" "$directory/completions"
"$program" man >"$directory/man/countersign.1"
for command in $("$program" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p'); do
    "$program" man "$command" >"$directory/man/countersign-$command.1"
done
"$program" completions bash >"$directory/completions/countersign"
"$program" completions zsh >"$directory/completions/_countersign"
"$program" completions fish >"$directory/completions/countersign.fish"
