#!/bin/sh
# npm run bench [names…] [--json] [--markdown] [--into FILE] [--runs N] [--duts LIST] [--full]
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
sh "$root/scripts/bootstrap.sh" bench
exec "$root/node_modules/.bin/node" --enable-source-maps "$root/dist/bench.js" "$@"
