#!/bin/sh
# Build a root file system in memory at $1 and go on there with the rest of the arguments as process 1.
# Run in mount, process, IPC, host name and control group namespaces of its own. What it takes from the machine is
# read-only; what it writes is in memory; the machine's root is unmounted before anything is started. OWN_ROOT_BINDS
# names what else it may read, a directory per line; OWN_ROOT_SKELETON is a directory whose content is copied into it.
set -eu

root=$1
shift

[ "$$" = 1 ] || { echo "not process 1 of a namespace of its own" >&2; exit 3; }
mount --make-rprivate /
mount -t tmpfs -o mode=0755 own-root "$root"
cd "$root"
mkdir -p dev etc proc run srv sys tmp usr var/lib var/log var/tmp old
chmod 1777 tmp var/tmp
for link in bin lib lib32 lib64 libx32 sbin; do
    [ -h "/$link" ] && ln -s "$(readlink "/$link")" "$link"
done

readonly_bind() {
    mkdir -p ".$1"
    mount --bind "$1" ".$1"
    mount -o remount,bind,ro ".$1"
}

readonly_bind /usr
printf '%s\n' "${OWN_ROOT_BINDS:-}" | while read -r place; do
    [ -z "$place" ] || readonly_bind "$place"
done
for name in passwd group nsswitch.conf ld.so.cache ld.so.conf localtime alternatives machine-id; do
    [ ! -e "/etc/$name" ] || cp -a "/etc/$name" etc/
done
cp -a "$OWN_ROOT_SKELETON/." .
# no unit, generator or rule of the machine's applies here
for name in system system-generators system-environment-generators; do
    mount -t tmpfs -o mode=0755,ro none usr/lib/systemd/$name
done
mount -t tmpfs -o mode=0755,ro none usr/lib/tmpfiles.d

mount -t tmpfs -o mode=0755,nosuid none dev
for name in null zero full random urandom tty; do
    : > dev/$name
    mount --bind /dev/$name dev/$name
done
: > dev/console
ln -s /proc/self/fd dev/fd
mkdir dev/shm dev/pts
mount -t tmpfs -o mode=1777 none dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=0755 none run
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup

pivot_root . old
cd /
umount -l old
rmdir old
[ "$(stat -f -c %T /)" = tmpfs ] || { echo "this is not the root file system in memory" >&2; exit 3; }
# nothing of this is any business of a test's
exec setpriv --bounding-set=-sys_boot,-sys_module,-sys_rawio,-sys_time,-syslog,-mac_admin,-mac_override "$@"
