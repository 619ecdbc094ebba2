#!/bin/sh
# What the image has of Debian: the packages of a lock file, unpacked, without a package manager or their scripts.
# Usage: debian.sh DIRECTORY            the root file system is unpacked there
#        debian.sh --lock               writes the lock file anew, with the newest packages that apt knows
#        debian.sh --lock ARCHITECTURE  that of another architecture, by the same archives
# The lock file has a line for each package: name, version, SHA-256 of the package.
set -eu
umask 022
cd "$(dirname "$0")/../.."
own=$(dpkg --print-architecture)
architecture=$own
if [ "${1:-}" = --lock ]; then architecture=${2:-$own}; fi
lock=deploy/debian-$architecture.lock
# Programs that felix starts (iptables, ipset, stdbuf of coreutils), a shell for Calico's commands, libraries of Node.
wanted='iptables ipset coreutils dash libstdc++6 netbase'

fail() {
  printf 'image: %s\n' "$1" >&2
  exit 1
}

# Of another architecture apt knows nothing: it asks Debian's archives, in a folder of its own.
elsewhere() {
  state=$(mktemp -d)
  trap 'rm -rf "$state"' EXIT
  mkdir -p "$state/lists/partial" "$state/archives/partial"
  cat >"$state/apt.conf" <<CONF
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Sandbox::User "root";
Dir::State "$state";
Dir::State::lists "$state/lists";
Dir::Cache "$state";
Dir::Etc::sourceparts "$state/sources";
Dir::Etc::sourcelist "/dev/null";
CONF
  mkdir "$state/sources"
  cp /etc/apt/sources.list.d/debian.sources "$state/sources/"
  APT_CONFIG=$state/apt.conf
  export APT_CONFIG
  apt-get update -qq
}

# Debian's own tools for packages are not needed where nothing is installed.
packages() {
  # shellcheck disable=SC2086 # a list of words
  apt-get -s -o Dir::State::status=/dev/null install --no-install-recommends $wanted |
    sed -n 's/^Inst \([^ :]*\)[: ].*/\1/p' | grep -vxE 'dpkg|tar|debianutils' | LC_ALL=C sort
}

if [ "${1:-}" = --lock ]; then
  state=
  [ "$architecture" = "$own" ] || elsewhere
  next=$(mktemp deploy/.debian.XXXXXX)
  trap 'rm -rf "$next" "$state"' EXIT
  for name in $(packages); do
    apt-cache show --no-all-versions "$name" | awk '
      /^Package:/ { name = $2 } /^Version:/ { version = $2 } /^SHA256:/ { print name, version, $2; exit }'
  done >"$next"
  [ -s "$next" ] || fail 'apt knows no packages; run: apt-get update'
  chmod 644 "$next"
  mv "$next" "$lock"
  exit 0
fi

root=${1:?a directory}
[ -e "$lock" ] || fail "there is no $lock; make it on such a machine with: npm run image -- --lock"
cache=${MARGAY_IMAGE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/margay-image}
mkdir -p "$cache"
fetched=$(mktemp -d "$cache/.fetch.XXXXXX")
trap 'rm -rf "$fetched"' EXIT
while read -r name version digest; do
  [ -e "$cache/$digest.deb" ] || printf '%s=%s ' "$name" "$version"
done <"$lock" >"$fetched/.missing"
if [ -s "$fetched/.missing" ]; then
  # shellcheck disable=SC2046 # a list of words
  (cd "$fetched" && apt-get download -qq $(cat .missing)) >"$fetched/.output" 2>&1 || {
    cat "$fetched/.output" >&2
    fail "Debian's archive has other versions than $lock by now; take them up with: npm run image -- --lock"
  }
  for file in "$fetched"/*.deb; do
    mv "$file" "$cache/$(sha256sum <"$file" | cut -d' ' -f1).deb"
  done
fi

mkdir -p "$root"
while read -r name version digest; do
  file=$cache/$digest.deb
  [ -e "$file" ] || fail "$name $version has another digest than $lock says"
  printf '%s  %s\n' "$digest" "$file" | sha256sum -c --quiet || fail "$name $version: the file in $cache is damaged"
  dpkg-deb -x "$file" "$root"
  # What scanners for vulnerabilities read in an image without package manager.
  mkdir -p "$root/var/lib/dpkg/status.d"
  dpkg-deb -f "$file" >"$root/var/lib/dpkg/status.d/$name"
done <"$lock"

# Done by the packages' scripts otherwise.
ln -sf dash "$root/bin/sh"
for name in iptables iptables-restore iptables-save ip6tables ip6tables-restore ip6tables-save; do
  ln -sf xtables-nft-multi "$root/usr/sbin/$name"
done
mkdir -p "$root/etc" "$root/proc" "$root/sys" "$root/dev" "$root/root" "$root/tmp" "$root/run" "$root/var/lib"
chmod 1777 "$root/tmp"
[ -e "$root/var/run" ] || ln -s ../run "$root/var/run"
printf 'root:x:0:0:root:/root:/bin/sh\nnonroot:x:65532:65532:nonroot:/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
# Documentation and what reads it; licences stay.
rm -rf "$root/usr/share/man" "$root/usr/share/info" "$root/usr/share/lintian" "$root/usr/share/locale" "$root/usr/share/bug"
find "$root/usr/share/doc" -type f ! -name copyright -delete
