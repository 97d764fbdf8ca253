#!/bin/sh
# Writes an image to a memory card, and refuses whatever may be another disk than the one that is meant.
set -eu

usage() {
    cat <<END
usage: sh write_card.sh [options] IMAGE DEVICE
Writes IMAGE to the card DEVICE (/dev/sdX, /dev/mmcblkX): shows what it is, asks for its name, writes, and reads back.
Where IMAGE.bmap lies beside the image, only the blocks that it lists travel.
Refused: what is no whole disk, is not removable, write-protected, smaller than the image or larger than a card; what is
mounted, used for swap, or part of a volume (LVM, RAID, ZFS, device mapper); and a name that is not the device's.
options
  --yes-erase NAME  do not ask: NAME repeats the device's name, as sdX
  --partition       DEVICE may be a partition of a card
  --fixed           DEVICE may be fixed to this machine (eMMC, a disk); all other checks hold
  --largest GB      largest size of a card, in 10^9 bytes (default 512)
  --check           check and show, write nothing
  --system FOLDER   take FOLDER for /: its sys, proc and dev, where devices are plain files (for trying this script)
exit status: 0 done, 1 refused or failed, 2 wrong command line, 3 a program is missing
END
}

refuse() {
    echo "write_card: $1" >&2
    exit "${2:-1}"
}

# Prints the first line of a file of sysfs, without blanks at its ends.
fact() {
    [ -r "$1" ] && sed -n '1s/^[[:space:]]*\(.*[^[:space:]]\)[[:space:]]*$/\1/p' "$1" || true
}

gigabytes() {
    awk -v bytes="$1" 'BEGIN { printf "%.1f GB", bytes / 1e9 }'
}

yes='' partition='' fixed='' largest=512 check='' system=''
while [ $# -gt 0 ]; do
    case $1 in
        --yes-erase | --largest | --system) [ $# -ge 2 ] || refuse "$1 needs a value (see --help)" 2 ;;
    esac
    case $1 in
        --yes-erase) yes=$2; shift ;;
        --largest) largest=$2; shift ;;
        --system) system=${2%/}; shift ;;
        --partition) partition=1 ;;
        --fixed) fixed=1 ;;
        --check) check=1 ;;
        --help | -h) usage; exit 0 ;;
        -*) refuse "unknown option $1 (see --help)" 2 ;;
        *) break ;;
    esac
    shift
done
[ $# -eq 2 ] || { usage >&2; exit 2; }
case $largest in
    '' | *[!0-9]*) refuse "--largest takes a number of GB, not '$largest'" 2 ;;
esac
image=$1
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C
for tool in blkid blockdev; do
    command -v $tool >/dev/null 2>&1 || refuse "$tool is missing: apt install util-linux" 3
done
# busybox has one of that name too, which knows neither LVM nor RAID nor ZFS.
blkid -V 2>&1 | grep -q util-linux || refuse "blkid of util-linux is missing: apt install util-linux" 3
[ -f "$image" ] || refuse "$image: no such image"
size=$(($(wc -c <"$image")))
[ $size -gt 0 ] && [ $((size % 512)) -eq 0 ] || refuse "$image: not of whole sectors: is it compressed, or not whole?"

# Which device it is. A link, as in /dev/disk/by-id, is followed.
device=$(readlink -f -- "$2" || true)
[ -n "$device" ] && [ -e "$device" ] || refuse "$2: no such device"
name=${device##*/}
if [ -n "$system" ]; then
    # So that a made-up system never leads to a real disk.
    case $device in
        "$(readlink -f -- "$system")"/dev/*) ;;
        *) refuse "$2: not below $system/dev" ;;
    esac
    [ -f "$device" ] || refuse "$2: not a plain file, as --system wants it"
else
    [ -b "$device" ] || refuse "$2: not a block device: a card is /dev/sdX or /dev/mmcblkX"
    [ "${device%/*}" = /dev ] || refuse "$2: a block device outside /dev"
fi
class=$system/sys/class/block
[ -d "$class/$name" ] || refuse "$2: the kernel knows no block device $name"
disk=$name
if [ -e "$class/$name/partition" ]; then
    disk=$(basename "$(dirname "$(readlink -f "$class/$name")")")
    [ -n "$partition" ] || refuse "$2: a partition of $disk, not a whole card (--partition writes to it all the same)"
elif [ -n "$partition" ]; then
    refuse "$2: a whole card, not a partition: leave --partition out"
fi
case $disk in
    ram* | zram* | md* | dm-* | sr* | fd* | nbd* | mmcblk*boot* | mmcblk*rpmb*) refuse "$2: $disk is no card" ;;
esac

# What it is made of: itself and its partitions, or the one partition.
parts=$name
if [ "$disk" = "$name" ]; then
    for entry in "$class/$name/$name"*; do
        [ ! -e "$entry/partition" ] || parts="$parts ${entry##*/}"
    done
fi
place=$(readlink -f "$class/$disk")
kind=$(fact "$class/$disk/device/type")
removable=$(fact "$class/$disk/removable")
if [ "$removable" != 1 ] && [ -z "$fixed" ]; then
    case $place in
        */mmc_host/*) [ "$kind" = SD ] || refuse "$2: soldered memory (${kind:-MMC}), not a card (--fixed writes to it all the same)" ;;
        */usb[0-9]*) ;;
        *) refuse "$2: not removable: a disk of this machine (--fixed writes to it all the same)" ;;
    esac
fi
[ "$(fact "$class/$name/ro")" != 1 ] || refuse "$2: write-protected: cards have a slider for that"
sectors=$(fact "$class/$name/size")
bytes=$((${sectors:-0} * 512))
[ $bytes -gt 0 ] || refuse "$2: no card in it"
[ $bytes -ge $size ] || refuse "$2: holds $bytes bytes, and the image has $size"
[ $bytes -le $((largest * 1000000000)) ] || refuse "$2: $(gigabytes $bytes) is more than a card has (--largest says how much may be)"

# Whether anything uses it. Mounts are told by device numbers, which have one spelling.
for part in $parts; do
    number=$(fact "$class/$part/dev")
    while read -r _ _ where _ point rest; do
        # Some file systems have numbers of their own, and name their device behind the hyphen.
        source=${rest##* - }
        source=${source#* }
        if [ "$where" = "$number" ] || [ "${source%% *}" = "/dev/$part" ]; then
            case $point in
                / | /boot | /boot/* | /usr | /var | /home) refuse "$2: $part holds $point of the running system" ;;
            esac
            refuse "$2: $part is mounted at $point: umount it first"
        fi
    done <"$system/proc/self/mountinfo"
    while read -r source _; do
        [ "$source" != "/dev/$part" ] || refuse "$2: $part is swap of the running system"
    done <"$system/proc/swaps"
    for holder in "$class/$part/holders"/*; do
        [ ! -e "$holder" ] || refuse "$2: $part is in use by ${holder##*/} (device mapper or RAID)"
    done
    node=${device%/*}/$part
    [ -e "$node" ] || continue
    case $(blkid -p -s TYPE -o value "$node" 2>/dev/null || true) in
        LVM2_member) refuse "$2: $part is part of an LVM volume group (wipefs -a makes it a card again)" ;;
        *_raid_member) refuse "$2: $part is part of a RAID (wipefs -a makes it a card again)" ;;
        zfs_member) refuse "$2: $part is part of a ZFS pool (wipefs -a makes it a card again)" ;;
        bcache) refuse "$2: $part is a bcache (wipefs -a makes it a card again)" ;;
    esac
done
if [ -z "$system" ] && [ "$disk" = "$name" ]; then
    # The kernel itself says whether any partition is open.
    case $(blockdev --rereadpt "$device" 2>&1 || true) in
        *[Bb]usy*) refuse "$2: in use" ;;
    esac
fi

# Of a reader on USB, the serial number is that of a folder above.
above=$place/device serial=$(fact "$place/device/serial")
while [ -z "$serial" ] && [ "$above" != "$system/sys" ] && [ "${above%/*}" != "" ]; do
    above=${above%/*}
    serial=$(fact "$above/serial")
done

# What a person sees before it is gone.
{
    echo "device     $device"
    echo "model      $(fact "$class/$disk/device/vendor") $(fact "$class/$disk/device/model")$(fact "$class/$disk/device/name")"
    echo "serial     $serial"
    echo "size       $(gigabytes $bytes)"
    for part in $parts; do
        node=${device%/*}/$part
        label=$(blkid -p -s LABEL -o value "$node" 2>/dev/null || true)
        type=$(blkid -p -s TYPE -o value "$node" 2>/dev/null || true)
        [ "$part" = "$name" ] && [ -z "$label$type" ] ||
            echo "holds      $part  $(gigabytes $(($(fact "$class/$part/size") * 512)))  ${type:--}  $label"
    done
    echo "image      $image, $(gigabytes $size)"
} | sed 's/  *$//'
[ -z "$check" ] || exit 0
if [ -z "$yes" ]; then
    [ -t 0 ] || refuse "nobody is asked here: --yes-erase $name says that $device may be erased"
    printf 'All that is on it will be lost. Type its name (%s) to go on: ' "$name"
    read -r yes || yes=
fi
[ "$yes" = "$name" ] || refuse "'$yes' is not $name: nothing was written"
[ -w "$device" ] || refuse "$device: not writable: run this as root (sudo)"

# The ranges of blocks that travel, with their digests: FIRST LAST SHA-256.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
block=4096
if [ -f "$image.bmap" ]; then
    block=$(sed -n 's:.*<BlockSize> *\([0-9]*\) *</BlockSize>.*:\1:p' "$image.bmap")
    mapped=$(sed -n 's:.*<ImageSize> *\([0-9]*\) *</ImageSize>.*:\1:p' "$image.bmap")
    [ -n "$block" ] && [ "$mapped" = $size ] || refuse "$image.bmap is not of this image: remove it, or make it anew with block_map.sh"
    sed -n 's:.*<Range chksum="\([0-9a-f]*\)"> *\([0-9]*\)-*\([0-9]*\) *</Range>.*:\2 \3 \1:p' "$image.bmap" |
        awk 'NF == 2 { print $1, $1, $2 } NF == 3' >"$work/ranges"
    [ -s "$work/ranges" ] || refuse "$image.bmap lists no digests: remove it, or make it anew with block_map.sh"
else
    digest=$(sha256sum <"$image")
    echo "0 $(((size + block - 1) / block - 1)) ${digest%% *}" >"$work/ranges"
fi

# Prints the digest of blocks $2 to $3 of the file $1.
digest_of() {
    count=$((($3 - $2 + 1) * block))
    [ $(($2 * block + count)) -le $size ] || count=$((size - $2 * block))
    dd if="$1" bs=1M iflag=skip_bytes,count_bytes,fullblock skip=$(($2 * block)) count=$count status=none | sha256sum | cut -d ' ' -f 1
}

while read -r first last digest; do
    [ "$(digest_of "$image" "$first" "$last")" = "$digest" ] || refuse "$image: damaged: not what $image.bmap says"
done <"$work/ranges"
if [ -f "$image.bmap" ] && command -v bmaptool >/dev/null 2>&1; then
    bmaptool -q copy --bmap "$image.bmap" "$image" "$device" >"$work/said" 2>&1 || refuse "bmaptool failed: $(tail -n 1 "$work/said")"
else
    while read -r first last _; do
        dd if="$image" of="$device" bs=1M iflag=skip_bytes,count_bytes,fullblock oflag=seek_bytes conv=notrunc,fsync status=none \
            skip=$((first * block)) seek=$((first * block)) count=$(((last - first + 1) * block)) ||
            refuse "$device: writing failed; what it holds now is of no use"
    done <"$work/ranges"
fi
# What is read back must come from the card, not from this machine's memory.
sync
[ -n "$system" ] || blockdev --flushbufs "$device"
while read -r first last digest; do
    [ "$(digest_of "$device" "$first" "$last")" = "$digest" ] ||
        refuse "$device: reads back other bytes than were written: the card is bad, or was pulled out"
done <"$work/ranges"
[ -n "$system" ] || [ "$disk" != "$name" ] || blockdev --rereadpt "$device" 2>/dev/null || true
echo "written    $name, read back and compared"
