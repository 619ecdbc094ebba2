#!/bin/busybox sh
# First process of the guest, twice: in the initial file system it loads modules and mounts the host's root, read-only
# over 9p; started again in there it runs the command and says how it ended. Console messages that begin `guest:` are
# reasons why it could not.
B=/bin/busybox
[ -x /run/guest/busybox ] && B=/run/guest/busybox

give_up() {
  echo "guest: $1" >/dev/console
  $B reboot -f
}

load() { # list of modules, in order
  while read -r name; do
    $B insmod "/modules/$name.ko" || echo "guest: module $name cannot be loaded" >/dev/console
  done <"/modules/$1"
}

first() {
  $B mount -t proc proc /proc
  $B mount -t sysfs sys /sys
  $B mount -t devtmpfs dev /dev
  load boot
  load suite
  $B mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro host /root ||
    give_up 'the host files cannot be mounted'
  $B mount -t tmpfs -o mode=755 run /root/run || give_up 'no /run'
  $B mkdir -p /root/run/guest/modules /root/run/tmp /root/run/netns /root/run/lock
  $B cp $B /init /command /root/run/guest/
  while read -r name; do $B cp "/modules/$name.ko" /root/run/guest/modules/; done </modules/late
  $B cp /modules/late /root/run/guest/modules/order
  for folder in proc sys dev; do $B mount -o move "/$folder" "/root/$folder"; done
  exec $B switch_root /root /run/guest/init
}

second() {
  $B ln -s /proc/self/fd /dev/fd
  # No module but those that were loaded on purpose.
  echo >/proc/sys/kernel/modprobe
  $B hostname guest
  $B ip link set lo up
  $B stty -F /dev/ttyS1 raw
  echo 'margay-guest: begin' >/dev/ttyS1
  $B setsid /bin/sh /run/guest/command </dev/null >/dev/ttyS1 2>&1
  echo "margay-guest: exit $?" >/dev/ttyS1
  $B reboot -f
}

if [ -e /run/guest/init ]; then second; else first; fi
