#!/bin/sh
# npm run image [-- --name NAME] [--output FILE]: the agents' image without docker and registry, from the steps of
# deploy/Dockerfile. Prints its digest, which is the same for the same sources, package-lock.json and debian-*.lock.
#   --lock [ARCHITECTURE]: takes up the newest packages of Debian
# The archive is for `ctr -n k8s.io images import`, `docker load`, `podman load`, or any tool that reads OCI layouts.
set -eu
umask 022
cd "$(dirname "$0")/.."
name=docker.io/library/margay:$(sed -n 's/^  "version": "\(.*\)",$/\1/p' package.json)
output=dist/margay-image.tar
while [ $# -gt 0 ]; do
  case $1 in
    --name) name=${2:?a name} && shift 2 ;;
    --output) output=${2:?a file} && shift 2 ;;
    --lock) exec sh scripts/image/debian.sh "$@" ;;
    *) printf 'image: unknown option %s\n' "$1" >&2 && exit 2 ;;
  esac
done
sh scripts/bootstrap.sh build >&2
[ -x dist/margay-cni ] || { printf 'image: the launcher is not built: install musl-tools and gcc\n' >&2 && exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sh scripts/image/debian.sh "$work/debian" >&2
node_modules/.bin/node scripts/image/program.ts "$work/program"
mkdir -p "$(dirname "$output")"
node_modules/.bin/node scripts/image/archive.ts "$name" "$work/image.tar" "$work/debian" "$work/program"
mv "$work/image.tar" "$output"
printf 'image: %s in %s\n' "$name" "$output" >&2
