#!/bin/sh
# npm run crds: writes deploy/crds from the schemas in src/model
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
sh "$root/scripts/bootstrap.sh" build
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$root/node_modules/.bin/esbuild" "$root/scripts/crds-main.ts" --bundle --platform=node --format=esm --target=node24 \
  --log-level=warning "--outfile=$out/crds.mjs"  \
  "--banner:js=import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);"
"$root/node_modules/.bin/node" "$out/crds.mjs" "$root"
