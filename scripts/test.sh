#!/bin/sh
# npm test: style and types, then the test layers, the guest kernel's last; with arguments, that layer only.
# Usage: test.sh [unit|property|contract|dataplane|interop|e2e|containerd|image|cluster|outage [vitest arguments]|vm]
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/node_modules/.bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH
case "${1:-all}" in
  unit | property) sh scripts/bootstrap.sh build ;;
  containerd | image) sh scripts/bootstrap.sh test containerd ;;
  cluster)
    sh scripts/bootstrap.sh test containerd
    MARGAY_KUBERNETES=$(sh scripts/kubernetes.sh)
    export MARGAY_KUBERNETES
    ;;
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
case "$layer" in
  containerd | image | cluster | outage) exec vitest run --config "test/$layer/vitest.config.ts" "$@" ;;
esac
exec vitest run --project "$layer" "$@"
