#!/bin/sh
# Bundles the programs into dist/, npm packages left outside. margay and margayctl are in parts, so that each of their
# commands loads only what it needs. Called by bootstrap.sh under its lock.
set -eu
cd "$(dirname "$0")/.."
mkdir -p dist
started=$(mktemp -p dist .built.XXXXXX)
# As deep as dist/ itself, so that the paths in source maps hold after the move.
next=$(mktemp -d -p . .dist-next.XXXXXX)
trap 'rm -rf "$next" "$started"' EXIT
bundle() {
  node_modules/.bin/esbuild "$@" --bundle --platform=node --format=esm --target=node24 --packages=external \
    --outdir="$next" --log-level=warning --sourcemap=linked '--banner:js=#!/usr/bin/env node'
}
bundle calico=./src/cli/calico.ts lab=./src/lab/main.ts lab-pods=./src/lab/pod-server.ts bench=./bench/main.ts \
  bfd-worker=./src/bgp/bfd/worker.ts etcd-worker=./src/datastore/aside/worker.ts
bundle margay=./src/cli/margay.ts margayctl=./src/cli/ctl.ts --splitting '--chunk-names=part-[hash]'
chmod 755 "$next"/*.js
# Parts first, as the program names them; those of earlier builds stay a while, as a program that starts may name them.
mv -f "$next"/part-* dist/
mv -f "$next"/* dist/
find dist -maxdepth 1 -name 'part-*' -mmin +60 -exec rm -f {} +
# A source saved while esbuild ran is newer than this stamp, and so is seen next time.
mv -f "$started" dist/.built
