#!/bin/sh
# Builds the CNI plugin executable, a static binary, into dist/margay-cni unless it is newer than its source.
set -eu
cd "$(dirname "$0")/.."
sources=src/cni/launcher
target=dist/margay-cni

if [ -x "$target" ] && [ -z "$(find "$sources" "$0" -type f -newer "$target" -print -quit)" ]; then
  exit 0
fi

if command -v musl-gcc >/dev/null; then
  compiler=musl-gcc
elif command -v gcc >/dev/null; then
  compiler=gcc
else
  echo 'build-launcher: no C compiler; install one with: apt-get install musl-tools gcc' >&2
  exit 1
fi

mkdir -p dist
built=$(mktemp dist/margay-cni.XXXXXX)
trap 'rm -f "$built"' EXIT
"$compiler" -std=c11 -static -Os -Wall -Wextra -Werror -o "$built" "$sources"/*.c
strip "$built"
chmod 755 "$built"
mv "$built" "$target"
