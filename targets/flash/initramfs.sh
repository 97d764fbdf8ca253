#!/bin/sh
# Makes the small system of a card that only runs a model: busybox, kernel modules, and what starts the service.
set -eu

usage() {
    cat <<END
usage: sh initramfs.sh --busybox FILE --service FILE [options] OUTPUT
Writes a compressed initramfs. At its start it loads the modules, brings up the network, mounts the data file system
that the kernel's command line names (edgekit.data=UUID=...) at /var/lib, and keeps the service running.
  --busybox FILE    a static busybox of the board (Debian: busybox-static)
  --service FILE    the program or script that runs the model; it is started anew when it ends
  --modules FOLDER  kernel modules (*.ko, *.ko.xz, *.ko.gz, *.ko.zst) that the kernel lacks: of the card's controller, ext4
                    and the network
Words of the kernel's command line: edgekit.data=UUID=... (or LABEL=..., /dev/...), edgekit.ip=ADDRESS/BITS (default: DHCP).
exit status: 0 done, 1 failed, 2 wrong command line, 3 a program is missing
END
}

refuse() {
    echo "initramfs: $1" >&2
    exit "${2:-1}"
}

busybox='' service='' modules=''
while [ $# -gt 0 ]; do
    case $1 in
        --busybox | --service | --modules) [ $# -ge 2 ] || refuse "$1 needs a value (see --help)" 2 ;;
    esac
    case $1 in
        --busybox) busybox=$2; shift 2 ;;
        --service) service=$2; shift 2 ;;
        --modules) modules=$2; shift 2 ;;
        --help | -h) usage; exit 0 ;;
        -*) refuse "unknown option $1 (see --help)" 2 ;;
        *) break ;;
    esac
done
[ $# -eq 1 ] && [ -n "$busybox" ] && [ -n "$service" ] || { usage >&2; exit 2; }
output=$1
for file in "$busybox" "$service"; do
    [ -f "$file" ] || refuse "$file: no such file"
done
[ -z "$modules" ] || [ -d "$modules" ] || refuse "$modules: no such folder"

export LC_ALL=C
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$work/tree/bin" "$work/tree/etc" "$work/tree/modules" "$work/tree/usr/lib/edgekit"
cp "$busybox" "$work/tree/bin/busybox"
cp "$service" "$work/tree/usr/lib/edgekit/service"
chmod 755 "$work/tree/bin/busybox" "$work/tree/usr/lib/edgekit/service"
for module in "$modules"/*.ko "$modules"/*.ko.xz "$modules"/*.ko.gz "$modules"/*.ko.zst; do
    [ -n "$modules" ] && [ -f "$module" ] || continue
    name=${module##*/}
    plain=$work/tree/modules/${name%.ko*}.ko
    case $name in
        *.xz) unpack='xz -dc' ;;
        *.gz) unpack='gzip -dc' ;;
        *.zst) unpack='zstd -dc' ;;
        *) unpack='cat' ;;
    esac
    command -v "${unpack%% *}" >/dev/null 2>&1 || refuse "${unpack%% *} is missing: apt install ${unpack%% *}" 3
    $unpack "$module" >"$plain" || refuse "$module: damaged"
done
# Each after those that it depends on; what is not among them is a part of the kernel.
for module in "$work/tree/modules"/*.ko; do
    [ -f "$module" ] || continue
    name=${module##*/}
    echo "$name $name"
    for needed in $(tr '\0' '\n' <"$module" | sed -n 's/^depends=//p' | tr ',' ' '); do
        for file in "$work/tree/modules/$needed.ko" "$work/tree/modules/$(echo "$needed" | tr _ -).ko"; do
            [ ! -f "$file" ] || echo "${file##*/} $name"
        done
    done
done >"$work/pairs"
tsort "$work/pairs" >"$work/tree/etc/modules" || refuse "the modules depend on each other in a circle"

cat >"$work/tree/init" <<'END'
#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /root /var/lib /usr/bin /sbin
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /tmp
mount -t tmpfs none /run
exec >/dev/console 2>&1 </dev/null

while read -r module; do
    insmod "/modules/$module" || echo "edgekit: $module was not loaded"
done </etc/modules

data=LABEL=edgekit address=
for word in $(cat /proc/cmdline); do
    case $word in
        edgekit.data=*) data=${word#*=} ;;
        edgekit.ip=*) address=${word#*=} ;;
    esac
done
tries=0
while :; do
    case $data in
        UUID=* | LABEL=*) device=$(findfs "$data" 2>/dev/null) ;;
        *) device=$data ;;
    esac
    # The journal makes it whole after a power cut.
    [ -n "$device" ] && mount -t ext4 -o noatime "$device" /var/lib 2>/dev/null && break
    tries=$((tries + 1))
    [ $tries -lt 600 ] || { echo "edgekit: there is no $data"; reboot -f; }
    sleep 0.1
done

hostname edgekit
ip link set lo up
for device in /sys/class/net/*; do
    name=${device##*/}
    [ "$name" != lo ] || continue
    ip link set "$name" up
    if [ -n "$address" ]; then
        ip address add "$address" dev "$name"
        break
    fi
    udhcpc -b -S -i "$name" -s /etc/udhcpc >/dev/null
done
echo "edgekit: starts the service"
exec /bin/busybox init
END
cat >"$work/tree/etc/udhcpc" <<'END'
#!/bin/busybox sh
# Does what DHCP says; called by udhcpc with variables.
export PATH=/bin
case $1 in
    deconfig) ip address flush dev "$interface" ;;
    bound | renew)
        ip address flush dev "$interface"
        ip address add "$ip/${mask:-24}" dev "$interface"
        for gateway in $router; do
            ip route replace default via "$gateway" dev "$interface"
        done
        : >/etc/resolv.conf
        for server in $dns; do
            echo "nameserver $server" >>/etc/resolv.conf
        done
        ;;
esac
END
cat >"$work/tree/etc/inittab" <<'END'
::respawn:/usr/lib/edgekit/service
::ctrlaltdel:/bin/reboot
::shutdown:/bin/umount -a -r
END
chmod 755 "$work/tree/init" "$work/tree/etc/udhcpc"

# The format "newc" of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst; everything is root's, and
# of no time.
number=0
entry() { # NAME MODE LINKS FILE
    number=$((number + 1))
    size=0
    [ -z "$4" ] || size=$(wc -c <"$4")
    printf '070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\000' \
        $number "0$2" 0 0 "$3" 0 "$size" 0 0 0 0 $((${#1} + 1)) 0 "$1"
    head -c $(((4 - (110 + ${#1} + 1) % 4) % 4)) /dev/zero
    [ -z "$4" ] || cat "$4"
    head -c $(((4 - size % 4) % 4)) /dev/zero
}
(cd "$work/tree" && find . -mindepth 1 | sort) >"$work/names"
while read -r name; do
    path=$work/tree/${name#./}
    if [ -d "$path" ]; then
        entry "${name#./}" 40755 2 ''
    elif [ -x "$path" ]; then
        entry "${name#./}" 100755 1 "$path"
    else
        entry "${name#./}" 100644 1 "$path"
    fi
done <"$work/names" >"$work/archive"
entry 'TRAILER!!!' 0 1 '' >>"$work/archive"
gzip -9 -n <"$work/archive" >"$output.part"
mv "$output.part" "$output"
