#!/bin/sh
# Adds a folder's files to an ext4 file system inside an image, without mounting it and without root.
set -eu

usage() {
    cat <<END
usage: sh add_to_ext4.sh IMAGE OFFSET FOLDER
Adds all that FOLDER holds to the ext4 file system that begins OFFSET bytes into IMAGE. Everything becomes root's, with
the modes that it has here and the time \$SOURCE_DATE_EPOCH; a file that is there already is replaced. What was
written is read back and compared, and the file system is checked.
exit status: 0 done, 1 failed, 2 wrong command line, 3 a program is missing
END
}

refuse() {
    echo "add_to_ext4: $1" >&2
    exit "${2:-1}"
}

case ${1:-} in
    --help | -h) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
esac
[ $# -eq 3 ] || { usage >&2; exit 2; }
# Of a person's PATH the administrator's programs are often not a part.
PATH=$PATH:/usr/sbin:/sbin
for tool in debugfs dumpe2fs e2fsck; do
    command -v $tool >/dev/null 2>&1 || refuse "$tool is missing: apt install e2fsprogs" 3
done
image=$1 offset=$2 folder=$3
[ -f "$image" ] || refuse "$image: no such image"
[ -d "$folder" ] || refuse "$folder: no such folder"
case $offset in
    '' | *[!0-9]*) refuse "the offset is a number of bytes, not '$offset'" 2 ;;
esac
: "${SOURCE_DATE_EPOCH:=1577836800}"
# What the tools of ext4 take for the clock.
export E2FSPROGS_FAKE_TIME="$SOURCE_DATE_EPOCH" LC_ALL=C
place="$image?offset=$offset"
facts=$(dumpe2fs -h "$place" 2>/dev/null) || refuse "$image: no ext4 file system at byte $offset"
case $facts in
    *needs_recovery*) refuse "$image: its journal holds changes that were not made yet: mount and unmount it once" ;;
esac
case $facts in
    *has_journal*) ;;
    *) refuse "$image: an ext4 file system without a journal does not survive a power cut: tune2fs -j adds one" ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
folder=$(cd "$folder" && pwd)
(cd "$folder" && find . -mindepth 1 | sort) >"$work/names"
if [ "$(find "$folder" -mindepth 1 | wc -l)" -ne "$(wc -l <"$work/names")" ] || grep -q '["\\]' "$work/names" ||
    (cd "$folder" && find . -name '*
*' | grep -q .); then
    refuse "$folder: names with quotes, backslashes or line ends cannot be written"
fi
mkdir "$work/back"
while read -r name; do
    path=${name#.}
    if [ -L "$folder$path" ]; then
        printf 'rm "%s"\nsymlink "%s" "%s"\n' "$path" "$path" "$(readlink "$folder$path")"
        continue
    fi
    mode=$(stat -c %a "$folder$path")
    if [ -d "$folder$path" ]; then
        mkdir "$work/back$path"
        # A folder that is there already keeps what it is; a second one of its name would damage the file system.
        debugfs -R "stat \"$path\"" "$place" 2>/dev/null | grep -q Inode: && continue
        printf 'mkdir "%s"\n' "$path"
        type=040
    elif [ -f "$folder$path" ]; then
        printf 'rm "%s"\nwrite "%s" "%s"\n' "$path" "$folder$path" "$path"
        type=0100
        printf 'dump "%s" "%s"\n' "$path" "$work/back$path" >>"$work/dump"
    else
        refuse "$folder$path: neither a file nor a folder nor a link"
    fi
    printf 'sif "%s" mode %s\nsif "%s" uid 0\nsif "%s" gid 0\n' "$path" "$type$(printf %03d "$mode")" "$path" "$path"
    for stamp in atime ctime mtime crtime; do
        printf 'sif "%s" %s @%s\n' "$path" $stamp "$SOURCE_DATE_EPOCH"
    done
done <"$work/names" >"$work/write"
debugfs -w -f "$work/write" "$place" >"$work/said" 2>&1 || refuse "debugfs failed: $(tail -n 1 "$work/said")"

# debugfs goes on after an error, so that only what is there tells.
touch "$work/dump"
debugfs -f "$work/dump" "$place" >/dev/null 2>&1 || refuse "$image: cannot be read back"
while read -r name; do
    path=${name#.}
    if [ -f "$folder$path" ] && [ ! -L "$folder$path" ] && ! cmp -s "$folder$path" "$work/back$path"; then
        reason=$(grep -v -e '^debugfs' -e 'File not found' -e 'already exists' -e '^Allocated inode' "$work/said" | head -n 1)
        refuse "$path is not in the image as it should be: ${reason:-is its file system full?}"
    fi
done <"$work/names"
e2fsck -f -n "$place" >"$work/checked" 2>&1 || refuse "$image: its file system is damaged: $(grep -v '^Pass' "$work/checked" | sed -n 2p)"
