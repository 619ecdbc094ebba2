#!/bin/sh
# Makes this checkout runnable: npm packages (with the pinned Node), Debian packages, the bundles in dist/.
# Usage: bootstrap.sh build|lab|test|bench [arguments of the command that follows]
# Does nothing, in a few milliseconds, when everything is there; two at once wait for each other.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/node_modules/.bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH
purpose=${1:-build}
[ $# -eq 0 ] || shift

fail() {
  printf 'margay: %s\n' "$1" >&2
  exit 1
}

say() {
  printf 'margay: %s\n' "$1" >&2
}

have() {
  command -v "$1" >/dev/null 2>&1
}

# Debian packages that this purpose needs and this machine lacks, told by a file each one installs.
missing_packages() {
  want() { [ -e "$2" ] || [ -e "${3:-/nonexistent}" ] || printf ' %s' "$1"; }
  [ "$purpose" = build ] && return 0
  have iptables || printf ' iptables'
  have ipset || printf ' ipset'
  have ip || printf ' iproute2'
  have ping || printf ' iputils-ping'
  have sysctl || printf ' procps'
  have nsenter || printf ' util-linux'
  have etcd || printf ' etcd-server'
  have musl-gcc || printf ' musl-tools'
  have gcc || printf ' gcc libc6-dev'
  case "$purpose $*" in
    lab*frr* | lab*none*) ;;
    *) have bird || printf ' bird2' ;;
  esac
  case "$purpose $*" in
    test* | bench* | lab*frr*) want frr /usr/lib/frr/bgpd ;;
  esac
  case "$purpose" in
    test | bench)
      have gobgpd || printf ' gobgpd'
      have bgpdump || printf ' bgpdump'
      have tcpdump || printf ' tcpdump'
      have conntrack || printf ' conntrack'
      have openssl || printf ' openssl'
      want containernetworking-plugins /usr/lib/cni/ptp /opt/cni/bin/ptp
      ;;
  esac
  case "$purpose $*" in
    'test containerd'*)
      have containerd || printf ' containerd'
      have runc || printf ' runc'
      [ -e /bin/busybox ] || printf ' busybox-static'
      ;;
  esac
}

# What the guest of test/vm boots with. Where it cannot be had, the guest's tests say that they did not run.
guest_packages() {
  [ "$purpose $(uname -m)" = 'test x86_64' ] && have apt-get || return 0
  have qemu-system-x86_64 || printf ' qemu-system-x86'
  [ -e /bin/busybox ] || printf ' busybox-static'
  have xz || printf ' xz-utils'
}

# Installs packages with their daemons neither started now nor at boot: the lab runs its own, in namespaces.
install_packages() {
  [ "$(id -u)" = 0 ] || fail "these packages are missing:$1; run this as root, or install them with: apt-get install --no-install-recommends$1"
  have apt-get || fail "these Debian packages are missing:$1; this machine has no apt-get, install their equivalents by hand"
  say "installing Debian packages:$1"
  policy=/usr/sbin/policy-rc.d
  if [ -e "$policy.margay-saved" ]; then mv -f "$policy.margay-saved" "$policy"; fi
  restore_policy() {
    rm -f "$policy"
    if [ -e "$policy.margay-saved" ]; then mv -f "$policy.margay-saved" "$policy"; fi
  }
  trap restore_policy EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  if [ -e "$policy" ]; then mv -f "$policy" "$policy.margay-saved"; fi
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  output=$(mktemp)
  apt-get update -q >"$output" 2>&1 || { cat "$output" >&2; say 'apt-get update failed; trying with the package lists that are here'; }
  # shellcheck disable=SC2086 # a list of words
  if ! DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=300 $1 >"$output" 2>&1; then
    cat "$output" >&2
    rm -f "$output"
    fail "apt-get could not install:$1"
  fi
  rm -f "$output"
  restore_policy
  trap - EXIT INT TERM
  if [ -d /run/systemd/system ]; then
    for unit in etcd bird frr gobgpd openbgpd containerd; do
      case "$1" in *" $unit"*) systemctl disable -q "$unit" 2>/dev/null || say "systemd has no unit $unit to disable" ;; esac
    done
  fi
}

# A competitor that the benchmarks can do without, and say so.
openbgpd_missing() {
  [ "$purpose" = bench ] && [ ! -e /usr/sbin/bgpd ]
}

check_node() {
  have node || fail 'Node.js is missing; install version 20 or newer (apt-get install nodejs npm, or https://nodejs.org)'
  have npm || fail 'npm is missing; install it (apt-get install npm)'
  major=$(node -p 'process.versions.node.split(".")[0]')
  [ "$major" -ge 20 ] || fail "Node.js $(node --version) is too old; install version 20 or newer"
}

install_modules() {
  check_node
  # npm empties the directory that it installs into, also one that a link leads to.
  [ ! -L node_modules ] || fail "node_modules is a link to $(readlink node_modules), which npm ci would empty; remove the link"
  say 'installing npm packages'
  output=$(mktemp)
  if ! npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >"$output" 2>&1; then
    cat "$output" >&2
    rm -f "$output"
    fail 'npm ci failed'
  fi
  rm -f "$output"
  [ -x node_modules/.bin/node ] || fail "npm has no pinned Node.js for $(uname -s) $(uname -m); supported are Linux x86_64 and aarch64"
  touch "$modules_stamp"
}

modules_stamp=node_modules/.margay-installed
modules_stale() {
  [ ! -x node_modules/.bin/node ] && return 0
  [ -e "$modules_stamp" ] && [ ! package-lock.json -nt "$modules_stamp" ] && return 1
  # Installed by hand: npm's own record tells.
  [ -e node_modules/.package-lock.json ] && [ ! package-lock.json -nt node_modules/.package-lock.json ] && return 1
  return 0
}

bundles_stale() {
  [ ! -e dist/.built ] && return 0
  [ -n "$(find src bench scripts/bundle.ts package-lock.json -newer dist/.built \( -name '*.ts' -o -name '*.json' \) -print -quit)" ]
}

launcher_stale() {
  [ "$purpose" = build ] && ! have musl-gcc && ! have gcc && return 1
  [ ! -e dist/margay-cni ] && return 0
  [ -n "$(find src/cni/launcher -newer dist/margay-cni -name '*.[ch]' -print -quit)" ]
}

bench_stale() {
  [ "$purpose" = bench ] || return 1
  [ ! dist/bench-routes -nt bench/felix/routes.c ] && return 0
  [ ! -e dist/bench-bgp ] && return 0
  [ -n "$(find bench/bgp/tester -newer dist/bench-bgp -name '*.[ch]' -print -quit)" ]
}

case "$purpose" in
  build | lab | test | bench) ;;
  *) fail "unknown purpose $purpose; expected build, lab, test or bench" ;;
esac
if [ "$purpose" != build ] && [ "$(id -u)" != 0 ]; then
  fail "npm run $purpose makes network namespaces, which needs root; run it with sudo"
fi

packages=$(missing_packages "$@")
guest=$(guest_packages)
if [ -n "$packages$guest" ] || modules_stale || bundles_stale || launcher_stale || bench_stale || openbgpd_missing; then
  have flock || fail 'flock is missing; install util-linux'
  exec 9>.bootstrap.lock
  flock 9
  packages=$(missing_packages "$@")
  guest=$(guest_packages)
  [ -z "$packages" ] || install_packages "$packages"
  ! openbgpd_missing || (install_packages ' openbgpd') || say 'OpenBGPD is not to be had here; its figures are left out'
  [ -z "$guest" ] || (install_packages "$guest") || say 'the tests in a guest kernel will not run'
  ! modules_stale || install_modules
  ! bundles_stale || sh scripts/bundle.sh
  ! launcher_stale || sh scripts/build-launcher.sh >&2
  ! bench_stale || sh scripts/build-bench.sh >&2
  exec 9>&-
fi
