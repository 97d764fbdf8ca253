#!/bin/sh
# Runs systemd as the first process of a world of its own: only the units that are here, a file system in memory beside
# /usr, which is read-only, and the folder DEVICE as /board.
set -eu

world=$1 device=$2
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$world"
cd "$world"
mkdir -p usr etc/systemd/system proc sys dev run tmp var root board
chmod 1777 tmp
for name in bin sbin lib lib64; do ln -s "usr/$name" "$name"; done
mount --bind /usr usr
mount -o remount,bind,ro usr
mount -t tmpfs tmpfs usr/lib/systemd/system
for unit in sysinit basic multi-user shutdown sockets timers paths slices; do
    printf '[Unit]\nDescription=%s\n' "$unit" >"usr/lib/systemd/system/$unit.target"
done
mount -o remount,ro usr/lib/systemd/system
printf 'root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\n' >etc/group
echo 'passwd: files systemd
group: files systemd' >etc/nsswitch.conf
echo 0123456789abcdef0123456789abcdef >etc/machine-id
mount --bind "$device" board
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mkdir sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
mount -t tmpfs -o mode=755 tmpfs dev
for row in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "dev/${row%:*}" c 1 "${row#*:}"
done
mknod -m 666 dev/tty c 5 0
mkdir dev/shm dev/pts dev/mqueue dev/hugepages
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs run
exec chroot . /usr/bin/env -i container=edgekit PATH=/usr/bin:/usr/sbin \
    /lib/systemd/systemd --system --unit=multi-user.target --show-status=no --log-target=console
