#!/bin/sh
# Builds the C programs of the benchmarks into dist/, each unless it is newer than its sources: bench-routes, that felix's
# routes are measured against, bench-bgp, the BGP speakers between whom a route reflector is measured, and bench-packets,
# which asks what connections through a policy cost.
set -eu
cd "$(dirname "$0")/.."

# The kernel's headers are glibc's to bring, so musl looks there last.
if command -v musl-gcc >/dev/null; then
  compiler="musl-gcc -static -idirafter /usr/include -idirafter /usr/include/$(uname -m)-linux-gnu"
elif command -v gcc >/dev/null; then
  compiler=gcc
else
  echo 'build-bench: no C compiler; install one with: apt-get install musl-tools gcc' >&2
  exit 1
fi

# build TARGET DIRECTORY PATTERN
build() {
  if [ -x "$1" ] && [ -z "$(find "$2" scripts/build-bench.sh -newer "$1" \( -name '*.[ch]' -o -name '*.sh' \) -print -quit)" ]; then
    return 0
  fi
  built=$(mktemp "$1.XXXXXX")
  # shellcheck disable=SC2046,SC2086 # lists of words
  $compiler -std=gnu11 -O2 -Wall -Wextra -Werror -o "$built" $(find "$2" -name "$3")
  chmod 755 "$built"
  mv "$built" "$1"
}

mkdir -p dist
built=''
trap 'rm -f "$built"' EXIT
build dist/bench-routes bench/felix 'routes.c'
build dist/bench-bgp bench/bgp/tester '*.c'
build dist/bench-packets bench/policy 'packets.c'
