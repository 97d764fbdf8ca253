#!/bin/sh
# Makes a device's root folder on this machine, with a bundle that waits there for the device: for images.
set -eu

usage() {
    cat <<END
usage: sh stage_root.sh --board NAME --key KEY.pub [options] BUNDLE ROOT
Makes the folder ROOT as edgekit-board keeps it, and puts the signed folder BUNDLE into its first slot. Signature, board
and digests are checked here; the device itself runs the golden inputs and switches, when its service first starts.
  --board NAME    the profile of the device
  --key KEY.pub   who may sign for the device; may be repeated
  --program FILE  edgekit-board of this machine (default: the one on PATH); the device gets the bundle's
exit status: 0 done, 1 refused or failed, 2 wrong command line, 3 a program is missing
END
}

refuse() {
    echo "stage_root: $1" >&2
    exit "${2:-1}"
}

program=edgekit-board board='' keys=0
while [ $# -gt 0 ]; do
    case $1 in
        --program | --board | --key) [ $# -ge 2 ] || refuse "$1 needs a value (see --help)" 2 ;;
    esac
    case $1 in
        --program) program=$2 ;;
        --board) board=$2 ;;
        --key) eval "key_$keys=\$2"; keys=$((keys + 1)) ;;
        --help | -h) usage; exit 0 ;;
        -*) refuse "unknown option $1 (see --help)" 2 ;;
        *) break ;;
    esac
    shift 2
done
[ $# -eq 2 ] && [ -n "$board" ] && [ $keys -gt 0 ] || { usage >&2; exit 2; }
bundle=$1 root=$2
for file in manifest.json manifest.json.minisig; do
    [ -f "$bundle/$file" ] || refuse "$bundle/$file is missing: a device takes signed bundles (edgekit sign)"
done
[ -f "$bundle/edgekit-board" ] || refuse "$bundle/edgekit-board is missing: deploy the bundle anew"
[ ! -e "$root" ] || refuse "$root: exists"
command -v "$program" >/dev/null 2>&1 || refuse "$program is missing: it comes with edgekit (edgekit/bin), name it with --program" 3

set --
index=0
while [ $index -lt $keys ]; do
    eval "set -- \"\$@\" \"\$key_$index\""
    index=$((index + 1))
done
"$program" "$root" init "$board" "$@"
signature=$(($(wc -c <"$bundle/manifest.json.minisig")))
wanted=$(cat "$bundle/manifest.json.minisig" "$bundle/manifest.json" | "$program" "$root" begin $signature)
while read -r offset _ path <&3; do
    [ -n "$path" ] || continue
    [ -f "$bundle/$path" ] || refuse "$bundle/$path: missing, but listed in manifest.json"
    tail -c "+$((offset + 1))" "$bundle/$path" | "$program" "$root" put "$path" "$offset" >/dev/null
done 3<<END
$wanted
END
mkdir -p "$root/bin"
cp "$bundle/edgekit-board" "$root/bin/edgekit-board"
chmod 755 "$root/bin/edgekit-board"
