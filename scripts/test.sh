#!/bin/sh
# npm test: style and types, then the test layers, the guest kernel's last; with arguments, that layer only.
# Usage: test.sh [unit|property|contract|dataplane|interop|e2e|containerd [vitest arguments]|vm]
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/node_modules/.bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH
case "${1:-all}" in
  unit | property) sh scripts/bootstrap.sh build ;;
  containerd) sh scripts/bootstrap.sh test containerd ;;
  *) sh scripts/bootstrap.sh test ;;
esac
if [ $# -eq 0 ]; then
  biome check --error-on-warnings .
  tsc --noEmit
  status=0
  vitest run || status=$?
  node test/vm/run.ts || status=$?
  exit "$status"
fi
[ "$1" != vm ] || exec node test/vm/run.ts
layer=$1
shift
[ "$layer" != containerd ] || exec vitest run --config test/containerd/vitest.config.ts "$@"
exec vitest run --project "$layer" "$@"
