#!/bin/sh
# Makes a RAUC bundle that brings a bundle of edgekit to a device, where edgekit-board checks it as it does any other.
set -eu

usage() {
    cat <<END
usage: sh rauc.sh --cert CERT.pem --key KEY.pem --compatible TEXT --version TEXT [options] BUNDLE OUTPUT.raucb
Packs the signed folder BUNDLE with a handler of its own: RAUC checks the certificate, then the handler hands the bundle
to the edgekit-board of the device, in /var/lib/edgekit or where \$EDGEKIT_ROOT says, which must be there already.
  --cert CERT.pem    who signs for RAUC; the device's keyring knows it
  --key KEY.pem      its key (an RSA key gives equal bytes each time)
  --chain FILE       certificates between --cert and the keyring's
  --compatible TEXT  what the device's system.conf says
  --version TEXT     the bundle's
  --format FORMAT    verity (default; device mapper checks what is read) or plain (for RAUC before 1.5)
Equal inputs give equal bytes; \$SOURCE_DATE_EPOCH is the time of all files.
exit status: 0 done, 1 failed, 2 wrong command line, 3 a program is missing
END
}

refuse() {
    echo "rauc: $1" >&2
    exit "${2:-1}"
}

cert='' key='' chain='' compatible='' version='' format=verity
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit 0 ;;
        --*) [ $# -ge 2 ] || refuse "$1 needs a value (see --help)" 2 ;;
    esac
    case $1 in
        --cert) cert=$2 ;;
        --key) key=$2 ;;
        --chain) chain=$2 ;;
        --compatible) compatible=$2 ;;
        --version) version=$2 ;;
        --format) format=$2 ;;
        -*) refuse "unknown option $1 (see --help)" 2 ;;
        *) break ;;
    esac
    shift 2
done
[ $# -eq 2 ] && [ -n "$cert" ] && [ -n "$key" ] && [ -n "$compatible" ] && [ -n "$version" ] || { usage >&2; exit 2; }
bundle=$1 output=$2
case $format in
    plain | verity) ;;
    *) refuse "--format is plain or verity, not '$format'" 2 ;;
esac
case $compatible$version in
    *[!A-Za-z0-9\ ._+~:-]*) refuse "'$compatible', '$version': letters, digits, blanks and ._+~:- alone" 2 ;;
esac
for file in "$cert" "$key" ${chain:+"$chain"}; do
    [ -f "$file" ] || refuse "$file: no such file"
done
for file in manifest.json manifest.json.minisig edgekit-board; do
    [ -f "$bundle/$file" ] || refuse "$bundle/$file is missing: a device takes signed bundles (edgekit deploy, edgekit sign)"
done
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin
command -v mksquashfs >/dev/null 2>&1 || refuse "mksquashfs is missing: apt install squashfs-tools" 3
command -v openssl >/dev/null 2>&1 || refuse "openssl is missing: apt install openssl" 3
[ "$format" = plain ] || command -v veritysetup >/dev/null 2>&1 || refuse "veritysetup is missing: apt install cryptsetup-bin" 3

export LC_ALL=C
: "${SOURCE_DATE_EPOCH:=1577836800}"
export SOURCE_DATE_EPOCH
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work" "$output.part"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$work/content"
cp -R "$bundle" "$work/content/bundle"
cp "$here/dir.sh" "$here/carry.sh" "$work/content/"
cat >"$work/content/manifest.raucm" <<END
[update]
compatible=$compatible
version=$version

[bundle]
format=$format

[handler]
filename=install.sh
END
cat >"$work/content/install.sh" <<'END'
#!/bin/sh
# Run by RAUC on the device, once it has checked who signed this.
set -eu
here=${RAUC_BUNDLE_MOUNT_POINT:-$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)}
root=${EDGEKIT_ROOT:-/var/lib/edgekit}
said=$(mktemp)
trap 'rm -f "$said"' EXIT
if [ ! -e "$root/board" ]; then
    echo "<< error $root is no device's root folder: the first bundle comes another way (ssh, a card, a .deb)"
    exit 1
fi
if ! sh "$here/dir.sh" --no-start "$here/bundle" "dir://$root" 2>"$said"; then
    echo "<< error $(tail -n 1 "$said")"
    cat "$said" >&2
    exit 1
fi
if [ -d /run/systemd/system ] && systemctl -q is-enabled edgekit.service 2>/dev/null; then
    systemctl restart edgekit.service
fi
END
find "$work/content" -type d -exec chmod 755 {} + -o -type f -exec chmod 644 {} +
chmod 755 "$work/content/install.sh" "$work/content/bundle/edgekit-run" "$work/content/bundle/edgekit-board"
mksquashfs "$work/content" "$work/bundle" -all-root -noappend -no-progress -no-xattrs -processors 1 >"$work/said" 2>&1 ||
    refuse "mksquashfs failed: $(tail -n 1 "$work/said")"

# A signature without attributes holds no time.
sign() { # FILE [OPTION]
    input=$1
    shift
    openssl cms -sign -binary -noattr -nosmimecap -md sha256 -outform DER -signer "$cert" -inkey "$key" \
        ${chain:+-certfile "$chain"} "$@" -in "$input" -out "$work/signature" 2>"$work/said" ||
        refuse "openssl could not sign with $key: $(head -n 1 "$work/said")"
}
if [ "$format" = verity ]; then
    salt=$(sha256sum <"$work/bundle")
    : >"$work/tree"
    hash=$(veritysetup format --no-superblock --data-block-size 4096 --hash-block-size 4096 --hash sha256 \
        --salt "${salt%% *}" "$work/bundle" "$work/tree" | sed -n 's/^Root hash:[[:space:]]*//p') || refuse "veritysetup failed"
    [ -n "$hash" ] || refuse "veritysetup failed"
    cat "$work/tree" >>"$work/bundle"
    sed "s/^format=verity/&\nverity-hash=$hash\nverity-salt=${salt%% *}\nverity-size=$(($(wc -c <"$work/tree")))/" \
        "$work/content/manifest.raucm" >"$work/manifest"
    sign "$work/manifest" -nodetach
else
    sign "$work/bundle"
fi
# RAUC finds the signature by its size in the last eight bytes.
cat "$work/signature" >>"$work/bundle"
size=$(($(wc -c <"$work/signature")))
# shellcheck disable=SC2059
printf "$(printf '\\0\\0\\0\\0\\%03o\\%03o\\%03o\\%03o' $((size >> 24 & 255)) $((size >> 16 & 255)) $((size >> 8 & 255)) $((size & 255)))" >>"$work/bundle"
cp "$work/bundle" "$output.part"
mv "$output.part" "$output"
