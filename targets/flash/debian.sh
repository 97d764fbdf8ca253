#!/bin/sh
# Makes a Debian package that brings a bundle to a device, where edgekit-board checks it as it does any other.
set -eu

usage() {
    cat <<END
usage: sh debian.sh --architecture ARCH --key KEY.pub --version VERSION [options] BUNDLE OUTPUT.deb
Packs the signed folder BUNDLE. When the package is installed, edgekit-board takes the bundle into the slot that does not
run, checks it there, and puts it on trial; if it refuses, so does the installation, and what ran goes on.
  --architecture ARCH  arm64, armhf, amd64 or riscv64
  --key KEY.pub        who may sign for a device that has no root folder yet
  --version VERSION    the package's; by it, newer replaces older
  --package NAME       (default: edgekit-model)
  --maintainer TEXT    Name <address> (default: \$DEBFULLNAME <\$DEBEMAIL>, else edgekit <root@localhost>)
  --files FOLDER       more files, as they lie on the device: the service
Equal inputs give equal bytes; \$SOURCE_DATE_EPOCH is the time of all files.
exit status: 0 done, 1 failed, 2 wrong command line, 3 a program is missing
END
}

refuse() {
    echo "debian: $1" >&2
    exit "${2:-1}"
}

architecture='' key='' version='' package=edgekit-model files=''
maintainer="${DEBFULLNAME:-edgekit} <${DEBEMAIL:-root@localhost}>"
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit 0 ;;
        --*) [ $# -ge 2 ] || refuse "$1 needs a value (see --help)" 2 ;;
    esac
    case $1 in
        --architecture) architecture=$2 ;;
        --key) key=$2 ;;
        --version) version=$2 ;;
        --package) package=$2 ;;
        --maintainer) maintainer=$2 ;;
        --files) files=$2 ;;
        -*) refuse "unknown option $1 (see --help)" 2 ;;
        *) break ;;
    esac
    shift 2
done
[ $# -eq 2 ] || { usage >&2; exit 2; }
bundle=$1 output=$2
# What Debian's policy allows in names and versions, 5.6.1 and 5.6.12.
case $package in
    ?) refuse "'$package' is too short for a package's name" 2 ;;
    '' | [!a-z0-9]* | *[!a-z0-9.+-]*) refuse "'$package' is no name of a package: a-z, 0-9 and .+- alone" 2 ;;
esac
case $version in
    '' | [!0-9]* | *[!A-Za-z0-9.+~-]*) refuse "'$version' is no version of a package: it begins with a digit" 2 ;;
esac
case $architecture in
    arm64 | armhf | amd64 | riscv64) ;;
    *) refuse "'$architecture' is no architecture: arm64, armhf, amd64 or riscv64" 2 ;;
esac
case $maintainer in
    *'
'*) refuse "a maintainer is one line" 2 ;;
    *?' <'?*@?*'>') ;;
    *) refuse "'$maintainer' is no maintainer: Name <address>" 2 ;;
esac
for file in manifest.json manifest.json.minisig edgekit-board; do
    [ -f "$bundle/$file" ] || refuse "$bundle/$file is missing: a device takes signed bundles (edgekit deploy, edgekit sign)"
done
[ -f "$key" ] || refuse "--key names the public key that may sign for the device: '$key' is no file"
[ -z "$files" ] || [ -d "$files" ] || refuse "$files: no such folder"
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
tar --version 2>/dev/null | grep -q GNU || refuse "GNU tar is missing: apt install tar" 3
for tool in gzip md5sum; do
    command -v $tool >/dev/null 2>&1 || refuse "$tool is missing: apt install $tool" 3
done

export LC_ALL=C
: "${SOURCE_DATE_EPOCH:=1577836800}"
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work" "$output.part"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$work/data/usr/lib/edgekit" "$work/data/usr/share/doc/$package" "$work/data/usr/share/lintian/overrides" "$work/control"
[ -z "$files" ] || cp -R "$files/." "$work/data/"
cp -R "$bundle" "$work/data/usr/lib/edgekit/bundle"
cp "$here/dir.sh" "$here/carry.sh" "$work/data/usr/lib/edgekit/"
cp "$key" "$work/data/usr/lib/edgekit/device.pub"
find "$work/data" -type d -exec chmod 755 {} + -o -type f -perm -100 -exec chmod 755 {} + -o -type f -exec chmod 644 {} +
chmod 755 "$work/data/usr/lib/edgekit/bundle/edgekit-run" "$work/data/usr/lib/edgekit/bundle/edgekit-board"

cat >"$work/data/usr/share/doc/$package/copyright" <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: edgekit
Comment: what the model is licensed under, its maker says; /usr/lib/edgekit/bundle lists its parts.

Files: *
Copyright: 2026, the authors of edgekit
License: Apache-2.0
 On Debian systems, the full text is in /usr/share/common-licenses/Apache-2.0.
END
when=$(date -u -d "@$SOURCE_DATE_EPOCH" '+%a, %d %b %Y %H:%M:%S +0000')
printf '%s (%s) stable; urgency=medium\n\n  * The bundle of this version.\n\n -- %s  %s\n' \
    "$package" "$version" "$maintainer" "$when" | gzip -9 -n >"$work/data/usr/share/doc/$package/changelog.gz"
# A device that must run it needs no library.
printf '%s: statically-linked-binary [usr/lib/edgekit/bundle/edgekit-%s]\n' "$package" board "$package" run \
    >"$work/data/usr/share/lintian/overrides/$package"

cat >"$work/control/control" <<END
Package: $package
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -sk --apparent-size "$work/data" | cut -f 1)
Section: misc
Priority: optional
Description: compressed neural network and the program that runs it
 A bundle of edgekit. When it is installed, the device checks that the network
 computes there what it computed where it was made, and takes it back if not.
END
(cd "$work/data" && find . -type f ! -path './etc/*' | sort | sed 's:^\./::' | xargs -d '\n' md5sum) >"$work/control/md5sums"
(cd "$work/data" && find . -type f -path './etc/*' | sort | sed 's:^\.::') >"$work/control/conffiles"
[ -s "$work/control/conffiles" ] || rm "$work/control/conffiles"

# $DPKG_ROOT is where dpkg installs to without changing its root.
cat >"$work/control/postinst" <<'END'
#!/bin/sh
set -e
lib="$DPKG_ROOT/usr/lib/edgekit"
root="$DPKG_ROOT/var/lib/edgekit"
if [ "$1" = configure ]; then
    if [ ! -e "$root/board" ]; then
        mkdir -p "$root"
        # What the purge of this package may remove.
        echo "$DPKG_MAINTSCRIPT_PACKAGE" >"$root/made-by"
    fi
    # Refused bundles leave what runs as it is, and this package unconfigured: dpkg --configure tries again.
    sh "$lib/dir.sh" --no-start --key "$lib/device.pub" "$lib/bundle" "dir://$root" >"$root/installation"
    rm -f "$root/installation"
    if [ -e "$lib/edgekit-service" ]; then
        cp "$lib/edgekit-service" "$root/bin/edgekit-service.new"
        mv -f "$root/bin/edgekit-service.new" "$root/bin/edgekit-service"
        # Whoever flashes a bundle later restarts the service by this.
        echo 'systemctl restart edgekit.service' >"$root/service"
    fi
fi
case $1 in
    configure | abort-upgrade | abort-deconfigure | abort-remove)
        if [ -z "$DPKG_ROOT" ] && [ -e /usr/lib/systemd/system/edgekit.service ] && command -v deb-systemd-helper >/dev/null; then
            deb-systemd-helper unmask edgekit.service >/dev/null || true
            if deb-systemd-helper --quiet was-enabled edgekit.service; then
                deb-systemd-helper enable edgekit.service >/dev/null || true
            else
                deb-systemd-helper update-state edgekit.service >/dev/null || true
            fi
            if [ -d /run/systemd/system ]; then
                systemctl --system daemon-reload >/dev/null || true
                deb-systemd-invoke restart edgekit.service >/dev/null || true
            fi
        fi
        ;;
esac
END
cat >"$work/control/prerm" <<'END'
#!/bin/sh
set -e
# An upgrade leaves the service running: the new bundle is checked beside it.
if [ "$1" = remove ] && [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
    deb-systemd-invoke stop edgekit.service >/dev/null || true
fi
END
cat >"$work/control/postrm" <<'END'
#!/bin/sh
set -e
root="$DPKG_ROOT/var/lib/edgekit"
if [ "$1" = remove ] && [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload >/dev/null || true
fi
if [ "$1" = remove ] && [ ! -e "$DPKG_ROOT/etc/systemd/system/edgekit.service" ]; then
    rm -f "$root/service"
fi
if [ "$1" = remove ] && [ -z "$DPKG_ROOT" ] && command -v deb-systemd-helper >/dev/null; then
    deb-systemd-helper mask edgekit.service >/dev/null || true
fi
if [ "$1" = purge ]; then
    if [ -z "$DPKG_ROOT" ] && command -v deb-systemd-helper >/dev/null; then
        deb-systemd-helper purge edgekit.service >/dev/null || true
        deb-systemd-helper unmask edgekit.service >/dev/null || true
    fi
    # Slots and keys that came there another way are not this package's to remove.
    if [ "$(cat "$root/made-by" 2>/dev/null)" = "$DPKG_MAINTSCRIPT_PACKAGE" ]; then
        rm -rf "$root"
    fi
fi
END
chmod 755 "$work/control/postinst" "$work/control/prerm" "$work/control/postrm"

for part in control data; do
    tar -C "$work/$part" --sort=name --format=gnu --owner=root:0 --group=root:0 --mtime="@$SOURCE_DATE_EPOCH" -cf - . |
        gzip -9 -n >"$work/$part.tar.gz"
done
echo 2.0 >"$work/debian-binary"
# The archive's format is that of ar, deb(5).
{
    printf '!<arch>\n'
    for member in debian-binary control.tar.gz data.tar.gz; do
        size=$(wc -c <"$work/$member")
        printf '%-16s%-12s%-6s%-6s%-8s%-10s`\n' $member "$SOURCE_DATE_EPOCH" 0 0 100644 $((size))
        cat "$work/$member"
        [ $((size % 2)) -eq 0 ] || echo
    done
} >"$output.part"
mv "$output.part" "$output"
