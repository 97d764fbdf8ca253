#!/bin/sh
# Makes an image for an SD card that holds a device's root folder, without root and without mounting anything.
set -eu

usage() {
    cat <<END
usage: sh card_image.sh --root FOLDER [options] IMAGE
Writes IMAGE, and IMAGE.bmap: the blocks of it that a card needs. FOLDER is a device's root folder, as
stage_root.sh makes it; on the card it is /var/lib/edgekit. Three kinds:
  with --base FILE      an image that boots already (Raspberry Pi OS, Debian ...), with the root folder and --files in it
  with --kernel FILE    a card that runs nothing but the model: a FAT partition to boot from, an ext4 partition for the rest
  with neither          one ext4 file system to be mounted at /var/lib
options
  --files FOLDER        added to the base's root file system: the service
  --initramfs FILE      for --kernel, as initramfs.sh makes it
  --boot FOLDER         what else the boot partition holds: firmware, device trees, config.txt; yours replace ours
  --loader KIND         what reads the boot partition: rpi (config.txt) or extlinux (U-Boot, L4T; default)
  --append WORDS        for the kernel's command line
  --raw FILE@BYTES      a boot loader that lies before the partitions, at so many bytes; may be repeated
  --first-mib N         where the partitions begin (default 16: what the boot loaders of most boards need)
  --data-mib N          size of the ext4 file system (default: three times what the root folder holds, and at least 64)
Equal inputs give equal bytes; \$SOURCE_DATE_EPOCH is the time of all files.
exit status: 0 done, 1 failed, 2 wrong command line, 3 a program is missing
END
}

refuse() {
    echo "card_image: $1" >&2
    exit "${2:-1}"
}

need() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null 2>&1 || refuse "$1 is missing: apt install $2" 3
}

# Prints the escapes of a little-endian number of four bytes.
four() {
    printf '\\%03o\\%03o\\%03o\\%03o' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255))
}

is_number() {
    case $1 in
        '' | *[!0-9]*) return 1 ;;
    esac
}

mib=1048576
root='' base='' kernel='' files='' initramfs='' boot='' loader=extlinux append='' first=16 data='' raws=0
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit 0 ;;
        --*) [ $# -ge 2 ] || refuse "$1 needs a value (see --help)" 2 ;;
    esac
    case $1 in
        --root) root=$2 ;;
        --base) base=$2 ;;
        --kernel) kernel=$2 ;;
        --files) files=$2 ;;
        --initramfs) initramfs=$2 ;;
        --boot) boot=$2 ;;
        --loader) loader=$2 ;;
        --append) append=$2 ;;
        --first-mib) first=$2 ;;
        --data-mib) data=$2 ;;
        --raw) eval "raw_$raws=\$2"; raws=$((raws + 1)) ;;
        -*) refuse "unknown option $1 (see --help)" 2 ;;
        *) break ;;
    esac
    shift 2
done
[ $# -eq 1 ] && [ -n "$root" ] || { usage >&2; exit 2; }
output=$1
[ -f "$root/board" ] && [ -d "$root/slots" ] || refuse "$root: no device's root folder (see stage_root.sh --help)"
[ -z "$base" ] || [ -z "$kernel" ] || refuse "--base boots by its own kernel: leave --kernel out" 2
[ -z "$kernel" ] || [ -n "$initramfs" ] || refuse "--kernel needs --initramfs (initramfs.sh makes one)" 2
[ -n "$kernel" ] || [ -z "$initramfs$boot$append" ] && [ -n "$kernel" ] || [ "$raws" -eq 0 ] ||
    refuse "--initramfs, --boot, --append and --raw go with --kernel" 2
[ -n "$base" ] || [ -z "$files" ] || refuse "--files goes with --base" 2
case $loader in
    rpi | extlinux) ;;
    *) refuse "--loader is rpi or extlinux, not '$loader'" 2 ;;
esac
is_number "$first" && [ "$first" -ge 1 ] || refuse "--first-mib takes a number, not '$first'" 2
[ -z "$data" ] || { is_number "$data" && [ "$data" -ge 16 ]; } || refuse "--data-mib takes a number from 16 on, not '$data'" 2
for file in "$base" "$kernel" "$initramfs"; do
    [ -z "$file" ] || [ -f "$file" ] || refuse "$file: no such file"
done
for folder in "$files" "$boot"; do
    [ -z "$folder" ] || [ -d "$folder" ] || refuse "$folder: no such folder"
done

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin
: "${SOURCE_DATE_EPOCH:=1577836800}"
export PATH LC_ALL=C TZ=UTC SOURCE_DATE_EPOCH
export E2FSPROGS_FAKE_TIME="$SOURCE_DATE_EPOCH" MKE2FS_CONFIG=/dev/null MTOOLSRC=/dev/null
need mkfs.ext4 e2fsprogs
need debugfs e2fsprogs
need sha256sum coreutils
if [ -n "$kernel" ]; then
    need mkfs.vfat dosfstools
    need mcopy mtools
fi
work=$(mktemp -d)
part=$output.part
trap 'rm -rf "$work" "$part" "$part.bmap"' EXIT
trap 'exit 1' HUP INT TERM
rm -f "$part"

# What is added, as it lies on the card.
mkdir -p "$work/tree/var/lib/edgekit"
[ -z "$files" ] || cp -R "$files/." "$work/tree/"
cp -R "$root/." "$work/tree/var/lib/edgekit/"
# Locks are empty, and the log of a machine that made an image is not the device's.
rm -f "$work/tree/var/lib/edgekit/log" "$work/tree/var/lib/edgekit/log.1"
held=$(du -sk "$root" | cut -f 1)

# Names of file systems that follow from what they hold: equal inputs give equal bytes.
(cd "$work/tree" && find . -type f | sort | while read -r name; do sha256sum "$name"; done) >"$work/digests"
for file in "$kernel" "$initramfs"; do
    [ -z "$file" ] || sha256sum <"$file" >>"$work/digests"
done
digest=$(sha256sum <"$work/digests")
uuid=$(echo "$digest" | sed 's/^\(.\{8\}\)\(.\{4\}\).\(.\{3\}\).\(.\{3\}\)\(.\{12\}\).*/\1-\2-8\3-a\4-\5/')
serial=$(echo "$digest" | cut -c 33-40)

make_ext4() { # IMAGE OFFSET MIB
    mkfs.ext4 -q -F -b 4096 -I 256 -m 0 -L edgekit -U "$uuid" -J size=4 -N $(($3 * 16)) \
        -O none,has_journal,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum \
        -E "offset=$2,hash_seed=$uuid,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard" "$1" "$3M" >"$work/said" 2>&1 ||
        refuse "mkfs.ext4 failed: $(tail -n 1 "$work/said")"
}

if [ -z "$data" ]; then
    data=$((held * 3 / 1024 + 24))
    [ $data -ge 64 ] || data=64
fi
if [ -n "$base" ]; then
    cp "$base" "$part"
    chmod u+w "$part"
    sh "$here/partitions.sh" "$part" >"$work/partitions" || exit 1
    target=''
    while read -r _ offset _ kind; do
        if [ "$kind" = ext4 ] && debugfs -R 'stat /etc/os-release' "$part?offset=$offset" 2>/dev/null | grep -q Inode:; then
            target=$offset
        fi
    done <"$work/partitions"
    [ -n "$target" ] || refuse "$base: none of its partitions is an ext4 file system with /etc/os-release: is it compressed?"
    free=$(dumpe2fs -h "$part?offset=$target" 2>/dev/null | awk '/^Free blocks:/ { free = $3 } /^Block size:/ { unit = $3 } END { print int(free * unit / 1024) }')
    # A bundle's programs are static, so that of the base only its processor matters.
    ours=$(od -An -tu2 -j 18 -N 2 "$root/bin/edgekit-board" 2>/dev/null | tr -d ' ')
    for program in /usr/bin/dash /bin/dash /usr/bin/bash /bin/bash /bin/busybox; do
        debugfs -R "dump $program $work/program" "$part?offset=$target" 2>/dev/null || true
        [ -s "$work/program" ] || continue
        theirs=$(od -An -tu2 -j 18 -N 2 "$work/program" | tr -d ' ')
        [ "$theirs" = "$ours" ] || refuse "$base: of another processor than the bundle (ELF machine $theirs, not $ours): take its 64-bit or 32-bit edition"
        break
    done
    # Two slots and the check of one of them.
    [ "$free" -ge $((held * 2 + 8192)) ] || refuse "$base: its root file system has $free KiB free, and two slots need $((held * 2 + 8192))"
    rest=$(($(wc -c <"$part") % 4096))
    [ $rest -eq 0 ] || truncate -s +$((4096 - rest)) "$part"
    sh "$here/add_to_ext4.sh" "$part" "$target" "$work/tree" || exit $?
elif [ -n "$kernel" ]; then
    mkdir -p "$work/boot"
    cp "$kernel" "$work/boot/kernel"
    cp "$initramfs" "$work/boot/initramfs"
    words="edgekit.data=UUID=$uuid${append:+ $append}"
    case $loader in
        rpi)
            printf '%s\n' "arm_64bit=1" "enable_uart=1" "kernel=kernel" "initramfs initramfs followkernel" >"$work/boot/config.txt"
            echo "$words" >"$work/boot/cmdline.txt"
            ;;
        extlinux)
            mkdir "$work/boot/extlinux"
            printf '%s\n' "default edgekit" "timeout 1" "label edgekit" "  linux /kernel" "  initrd /initramfs" "  append $words" \
                >"$work/boot/extlinux/extlinux.conf"
            ;;
    esac
    [ -z "$boot" ] || cp -R "$boot/." "$work/boot/"
    # FAT32 needs 65525 clusters.
    boot_mib=$(($(du -sk "$work/boot" | cut -f 1) / 1024 + 8))
    [ $boot_mib -ge 40 ] || boot_mib=40
    find "$work/boot" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    truncate -s ${boot_mib}M "$work/fat"
    mkfs.vfat --invariant -F 32 -s 1 -n EDGEKIT -i "$serial" "$work/fat" >/dev/null
    # In order, one by one: mtools would take the folder's.
    (cd "$work/boot" && find . -mindepth 1 | sort) >"$work/names"
    while read -r name; do
        if [ -d "$work/boot/$name" ]; then
            mmd -i "$work/fat" "::${name#.}" || refuse "$name: mmd failed"
        else
            mcopy -m -i "$work/fat" "$work/boot/$name" "::${name#.}" || refuse "$name: mcopy failed"
        fi
    done <"$work/names"
    data_at=$((first + boot_mib))
    truncate -s $(((data_at + data) * mib)) "$part"
    dd if="$work/fat" of="$part" bs=$mib seek="$first" conv=notrunc status=none
    make_ext4 "$part" $((data_at * mib)) "$data"
    sh "$here/add_to_ext4.sh" "$part" $((data_at * mib)) "$work/tree/var/lib" || exit $?
    index=0
    while [ $index -lt $raws ]; do
        raw=; eval "raw=\$raw_$index"
        index=$((index + 1))
        file=${raw%@*} at=${raw##*@}
        [ -f "$file" ] && is_number "$at" && [ "$at" -ge 512 ] || refuse "--raw takes FILE@BYTES, from byte 512 on, not '$raw'" 2
        [ $((at + $(wc -c <"$file"))) -le $((first * mib)) ] || refuse "$file ends in the partitions: give a larger --first-mib"
        dd if="$file" of="$part" bs=64K seek="$at" oflag=seek_bytes conv=notrunc status=none
    done
    # The partition table: a disk's name, then boot (FAT32, active), then data (Linux); CHS says that LBA rules.
    {
        printf '\\%03o\\%03o\\%03o\\%03o\\0\\0' "0x$(echo "$digest" | cut -c 41-42)" "0x$(echo "$digest" | cut -c 43-44)" \
            "0x$(echo "$digest" | cut -c 45-46)" "0x$(echo "$digest" | cut -c 47-48)"
        printf '\\200\\376\\377\\377\\014\\376\\377\\377%s%s' "$(four $((first * 2048)))" "$(four $((boot_mib * 2048)))"
        printf '\\000\\376\\377\\377\\203\\376\\377\\377%s%s' "$(four $((data_at * 2048)))" "$(four $((data * 2048)))"
    } >"$work/table"
    # shellcheck disable=SC2059
    printf "$(cat "$work/table")" | dd of="$part" bs=1 seek=440 conv=notrunc status=none
    printf '\125\252' | dd of="$part" bs=1 seek=510 conv=notrunc status=none
else
    truncate -s $((data * mib)) "$part"
    make_ext4 "$part" 0 "$data"
    sh "$here/add_to_ext4.sh" "$part" 0 "$work/tree/var/lib" || exit $?
fi
sh "$here/block_map.sh" "$part" || exit $?
mv "$part.bmap" "$output.bmap"
mv "$part" "$output"
