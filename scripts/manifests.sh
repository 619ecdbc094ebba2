#!/bin/sh
# npm run manifests: writes the manifests of deploy/ from scripts/manifests
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
sh "$root/scripts/bootstrap.sh" build
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$root/node_modules/.bin/esbuild" "$root/scripts/manifests-main.ts" --bundle --platform=node --format=esm --target=node24 \
  --log-level=warning "--outfile=$out/manifests.mjs" \
  "--banner:js=import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);"
"$root/node_modules/.bin/node" "$out/manifests.mjs" "$root"
