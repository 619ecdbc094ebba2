#!/bin/sh
# Bundles the programs into dist/, npm packages left outside. Called by bootstrap.sh under its lock.
set -eu
cd "$(dirname "$0")/.."
mkdir -p dist
started=$(mktemp -p dist .built.XXXXXX)
# As deep as dist/ itself, so that the paths in source maps hold after the move.
next=$(mktemp -d -p . .dist-next.XXXXXX)
trap 'rm -rf "$next" "$started"' EXIT
set -- margay=./src/cli/margay.ts margayctl=./src/cli/margayctl.ts calico=./src/cli/calico.ts lab=./src/lab/main.ts lab-pods=./src/lab/pod-server.ts bench=./bench/main.ts \
  bfd-worker=./src/bgp/bfd/worker.ts etcd-worker=./src/datastore/aside/worker.ts
node_modules/.bin/esbuild "$@" --bundle --platform=node --format=esm --target=node24 --packages=external \
  --outdir="$next" --log-level=warning --sourcemap=linked '--banner:js=#!/usr/bin/env node'
chmod 755 "$next"/*.js
mv -f "$next"/* dist/
# A source saved while esbuild ran is newer than this stamp, and so is seen next time.
mv -f "$started" dist/.built
