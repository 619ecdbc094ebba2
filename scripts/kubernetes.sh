#!/bin/sh
# Kubernetes' own programs for the tests on a live cluster, built once of Debian's source package; prints their folder.
# Usage: kubernetes.sh [--where]      --where: only says which folder it would be
# The folder is MARGAY_KUBERNETES, or margay-kubernetes/1.20.2 in the user's cache; whoever has such programs already may
# name theirs. A first build takes about half an hour of a processor, 3 GB of disk while it lasts, and 500 MB after.
set -eu
umask 022
cd "$(dirname "$0")/.."
version=1.20.2
package=1.20.5+really1.20.2-1.1+deb12u1
programs='kube-apiserver kube-controller-manager kubectl kube-scheduler kubelet kube-proxy'
go=/usr/lib/go-1.19/bin/go
reflect2=/usr/share/gocode/src/github.com/modern-go/reflect2
folder=${MARGAY_KUBERNETES:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/margay-kubernetes/$version}

say() {
  printf 'margay: %s\n' "$1" >&2
}

fail() {
  say "$1"
  exit 1
}

missing() {
  for program in $programs; do
    [ -x "$folder/$program" ] || printf ' %s' "$program"
  done
}

# Debian's archive as apt knows it, with sources; apt checks the signature and every file's digest.
sources() {
  archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
  if [ -z "$archive" ]; then
    say "apt knows no archive of Debian 12 (bookworm); add one to /etc/apt/sources.list.d"
    exit 1
  fi
  mkdir -p "$work/lists/partial"
  printf 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s bookworm main\n' \
    "$archive" >"$work/sources.list"
  apt() {
    apt-get -q -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
      -o Dir::State::Lists="$work/lists" -o APT::Sandbox::User=root "$@" >&2
  }
  say "fetching the source of kubernetes $package"
  apt update
  (cd "$work" && apt source --download-only "kubernetes=$package")
  rm -rf "$work/unpacked"
  dpkg-source --no-check --no-copy --extract "$work"/kubernetes_*.dsc "$work/unpacked" >&2
  mkdir -p "$work/go/src/k8s.io"
  rm -rf "$work/go/src/k8s.io/kubernetes"
  # Its reflect2 is older than Go 1.18, with which it corrupts memory: Debian's own has the mended one.
  (cd "$work/unpacked/vendor/github.com/modern-go/reflect2" && rm -f -- *.go *.s && cp "$reflect2"/*.go "$reflect2"/*.s .)
  mv "$work/unpacked" "$work/go/src/k8s.io/kubernetes"
}

toolchain() {
  packages='golang-1.19-go golang-github-modern-go-reflect2-dev dpkg-dev gcc libc6-dev'
  [ -x "$go" ] && [ -d "$reflect2" ] && [ -x /usr/bin/dpkg-source ] && return 0
  [ "$(id -u)" = 0 ] || fail "these Debian packages are needed: $packages; install them, or run this as root"
  say "installing Debian packages: $packages"
  apt-get update -q >&2
  # shellcheck disable=SC2086 # a list of words
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=300 $packages >&2 ||
    fail "Kubernetes $version is built on Debian 12; elsewhere name a folder with its programs in MARGAY_KUBERNETES"
}

# The source is older than modules: it is built as a part of GOPATH, with the packages that it brings along.
compile() {
  GO111MODULE=off GOFLAGS='' GOPATH="$work/go" GOCACHE="$work/cache" GOROOT='' nice "$go" build "$@" >&2
}

# The API's description of itself, that kubectl checks objects by, is the only generated file which the source leaves out.
openapi() {
  say 'generating the OpenAPI definitions'
  compile -o "$work/openapi-gen" k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen
  (
    cd "$work/go/src/k8s.io/kubernetes"
    kinds=$(grep -rl --include='*.go' '+k8s:openapi-gen=' staging/src/k8s.io pkg/apis | xargs -n 1 dirname |
      sed 's#^staging/src/#vendor/#; s#^#k8s.io/kubernetes/#' | LC_ALL=C sort -u |
      grep -v -e /code-generator/ -e /sample-apiserver/ | paste -sd ,)
    PATH="${go%/*}:$PATH" GO111MODULE=off GOPATH="$work/go" GOROOT='' "$work/openapi-gen" --logtostderr \
      --input-dirs "$kinds" --output-package k8s.io/kubernetes/pkg/generated/openapi \
      --output-file-base zz_generated.openapi --output-base "$work/go/src" \
      --go-header-file vendor/k8s.io/code-generator/hack/boilerplate.go.txt --report-filename "$work/violations" >&2
  )
}

build() {
  stamps=
  for part in component-base client-go/pkg; do
    for value in gitVersion=v$version gitMajor=1 gitMinor=20 gitTreeState=clean; do
      stamps="$stamps -X k8s.io/kubernetes/vendor/k8s.io/$part/version.$value"
    done
  done
  compile -ldflags "-s -w$stamps" -o "$work/$1" "k8s.io/kubernetes/cmd/$1" ||
    fail "$1 could not be built; what there is stays in $work"
  mv "$work/$1" "$folder/$1"
}

if [ "${1:-}" = --where ]; then
  printf '%s\n' "$folder"
  exit 0
fi
[ $# -eq 0 ] || fail "unknown argument $1; there is only --where"

if [ -n "$(missing)" ]; then
  [ "$(uname -s)" = Linux ] && command -v apt-get >/dev/null || fail "these are missing in $folder:$(missing)"
  mkdir -p "$folder"
  exec 9>"$folder/.lock"
  flock 9
  # What a build that was broken off has made is used again.
  work=$folder/.build
  mkdir -p "$work"
  if [ -n "$(missing)" ]; then
    toolchain
    [ -d "$work/go/src/k8s.io/kubernetes" ] || sources
    [ -e "$work/go/src/k8s.io/kubernetes/pkg/generated/openapi/zz_generated.openapi.go" ] || openapi
    for program in $(missing); do
      say "building $program"
      build "$program"
    done
  fi
  rm -rf "$work"
  exec 9>&-
fi
printf '%s\n' "$folder"
