#!/bin/sh
# Bundles the programs into dist/ by scripts/bundle.ts. Called by bootstrap.sh under its lock.
set -eu
cd "$(dirname "$0")/.."
mkdir -p dist
started=$(mktemp -p dist .built.XXXXXX)
# As deep as dist/ itself, so that the paths in source maps hold after the move.
next=$(mktemp -d -p . .dist-next.XXXXXX)
trap 'rm -rf "$next" "$started"' EXIT
node_modules/.bin/node scripts/bundle.ts "$next"
chmod 755 "$next"/*.js
# Parts first, as the program names them; those of earlier builds stay a while, as a program that starts may name them.
mv -f "$next"/part-* dist/
mv -f "$next"/* dist/
find dist -maxdepth 1 -name 'part-*' -mmin +60 -exec rm -f {} +
# A source saved while esbuild ran is newer than this stamp, and so is seen next time.
mv -f "$started" dist/.built
