#!/bin/sh
# Writes which blocks of an image a card needs (bmap 2.0, as bmaptool reads it), with the digest of each range.
set -eu

usage() {
    cat <<END
usage: sh block_map.sh IMAGE
Writes IMAGE.bmap. Left out are only the blocks that an ext4 file system says are free: what else is zero must be zero
on the card too, where a journal or a boot loader of former days may lie.
exit status: 0 done, 1 failed, 2 wrong command line, 3 a program is missing
END
}

refuse() {
    echo "block_map: $1" >&2
    exit "${2:-1}"
}

case ${1:-} in
    --help | -h) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
esac
[ $# -eq 1 ] || { usage >&2; exit 2; }
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C
command -v dumpe2fs >/dev/null 2>&1 || refuse "dumpe2fs is missing: apt install e2fsprogs" 3
command -v sha256sum >/dev/null 2>&1 || refuse "sha256sum is missing: apt install coreutils" 3
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
image=$1
block=4096
[ -f "$image" ] || refuse "$image: no such image"
size=$(wc -c <"$image")
[ "$size" -gt 0 ] && [ $((size % block)) -eq 0 ] || refuse "$image: not of whole blocks of $block bytes"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
sh "$here/partitions.sh" "$image" >"$work/partitions" || exit 1
while read -r _ offset _ kind; do
    [ "$kind" = ext4 ] || continue
    dumpe2fs "$image?offset=$offset" >"$work/facts" 2>/dev/null || refuse "$image: the ext4 file system at byte $offset cannot be read"
    # Whole blocks of ours within each run of free ones, as FIRST LAST.
    awk -v offset="$offset" -v block=$block '
        /^Block size:/ { unit = $3 }
        /^  Free blocks: [0-9]/ {
            sub(/^  Free blocks: /, "")
            count = split($0, runs, /, /)
            for (i = 1; i <= count; ++i) {
                ends = split(runs[i], run, "-")
                first = int((offset + run[1] * unit + block - 1) / block)
                last = int((offset + (run[ends] + 1) * unit) / block) - 1
                if (last >= first) printf "%d %d\n", first, last
            }
        }' "$work/facts"
done <"$work/partitions" | sort -n >"$work/free"
awk -v blocks=$((size / block)) '
    { if ($1 > next_used) print next_used, $1 - 1; if ($2 + 1 > next_used) next_used = $2 + 1 }
    BEGIN { next_used = 0 }
    END { if (next_used < blocks) print next_used, blocks - 1 }' "$work/free" >"$work/used"

while read -r first last; do
    digest=$(tail -c +$((first * block + 1)) "$image" | head -c $(((last - first + 1) * block)) | sha256sum)
    range="$first-$last"
    [ "$first" != "$last" ] || range=$first
    echo "        <Range chksum=\"${digest%% *}\"> $range </Range>"
done <"$work/used" >"$work/ranges"
mapped=$(awk '{ sum += $2 - $1 + 1 } END { print sum }' "$work/used")
none=0000000000000000000000000000000000000000000000000000000000000000
{
    cat <<END
<?xml version="1.0" ?>
<bmap version="2.0">
    <ImageSize> $size </ImageSize>
    <BlockSize> $block </BlockSize>
    <BlocksCount> $((size / block)) </BlocksCount>
    <MappedBlocksCount> $mapped </MappedBlocksCount>
    <ChecksumType> sha256 </ChecksumType>
    <BmapFileChecksum> $none </BmapFileChecksum>
    <BlockMap>
END
    cat "$work/ranges"
    echo "    </BlockMap>"
    echo "</bmap>"
} >"$work/map"
# Of the file itself, with zeros in the digest's place.
digest=$(sha256sum <"$work/map")
sed "s/ $none / ${digest%% *} /" "$work/map" >"$image.bmap.part"
mv "$image.bmap.part" "$image.bmap"
