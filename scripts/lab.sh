#!/bin/sh
# npm run lab: a cluster of network namespaces on this machine.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
sh "$root/scripts/bootstrap.sh" lab "$@"
exec "$root/node_modules/.bin/node" --enable-source-maps "$root/dist/lab.js" "$@"
