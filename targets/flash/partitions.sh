#!/bin/sh
# Lists the partitions of an image or a card, by MBR or GPT, without root and without a tool for it.
set -eu

usage() {
    cat <<END
usage: sh partitions.sh IMAGE
Prints a line for each partition: NUMBER OFFSET SIZE KIND, in bytes; KIND is ext4, fat or other. An image that is one
file system has number 0.
exit status: 0 done, 1 failed, 2 wrong command line
END
}

refuse() {
    echo "partitions: $1" >&2
    exit 1
}

# Prints the little-endian number of $2 bytes at byte $1 of the image.
number() {
    dd if="$image" iflag=skip_bytes,count_bytes skip="$1" count="$2" 2>/dev/null | od -An -v -tu1 | {
        read -r bytes || bytes=
        sum=0 place=1
        for byte in $bytes; do
            sum=$((sum + byte * place))
            place=$((place * 256))
        done
        echo $sum
    }
}

# Prints which file system begins at byte $1.
kind() {
    if [ "$(number $(($1 + 1080)) 2)" = 61267 ]; then
        echo ext4
    elif [ "$(number $(($1 + 510)) 2)" = 43605 ] && # 55 aa
        { [ "$(number $(($1 + 54)) 3)" = 5521734 ] || [ "$(number $(($1 + 82)) 3)" = 5521734 ]; }; then # FAT
        echo fat
    else
        echo other
    fi
}

case ${1:-} in
    --help | -h) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
esac
[ $# -eq 1 ] || { usage >&2; exit 2; }
image=$1
[ -r "$image" ] || refuse "$image: cannot be read"
if [ -f "$image" ]; then
    whole=$(wc -c <"$image")
else
    whole=$(blockdev --getsize64 "$image")
fi
if [ "$(number 510 2)" != 43605 ] || [ "$(kind 0)" = fat ]; then
    [ "$(kind 0)" != other ] || refuse "$image: neither partitions nor a file system that is known here"
    echo "0 0 $whole $(kind 0)"
    exit 0
fi
if [ "$(number 450 1)" = 238 ]; then
    [ "$(number 512 4)" = 541673029 ] || refuse "$image: its GPT is damaged" # EFI
    # Of 512-byte sectors, as all cards have.
    table=$(($(number 584 8) * 512)) count=$(number 592 4) entry=$(number 596 4)
    [ "$entry" -ge 128 ] && [ "$entry" -le 4096 ] && [ "$count" -le 1024 ] || refuse "$image: its GPT is damaged"
    index=0
    while [ $index -lt "$count" ]; do
        at=$((table + index * entry))
        index=$((index + 1))
        [ "$(number $at 8)" != 0 ] || continue
        first=$(number $((at + 32)) 8) last=$(number $((at + 40)) 8)
        [ "$last" -ge "$first" ] && [ $((last * 512)) -lt "$whole" ] || refuse "$image: partition $index ends behind its end"
        echo "$index $((first * 512)) $(((last - first + 1) * 512)) $(kind $((first * 512)))"
    done
    exit 0
fi
for index in 1 2 3 4; do
    at=$((430 + 16 * index))
    [ "$(number $((at + 4)) 1)" != 0 ] || continue
    first=$(number $((at + 8)) 4) sectors=$(number $((at + 12)) 4)
    [ $(((first + sectors) * 512)) -le "$whole" ] || refuse "$image: partition $index ends behind its end"
    echo "$index $((first * 512)) $((sectors * 512)) $(kind $((first * 512)))"
done
