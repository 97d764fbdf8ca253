#!/bin/sh
# Mender's update module for payloads of type `edgekit` (update modules' API, version 3): hands the bundle of an artifact
# to edgekit-board, which checks it and keeps it on trial until Mender commits, or goes back.
#
# Install it as /usr/share/mender/modules/v3/edgekit.
set -eu

usage() {
    cat <<END
usage: edgekit STATE FILES
Mender's client runs this with each state of an update (Download, ArtifactInstall, ArtifactCommit, ArtifactRollback,
Cleanup, ...) and with the folder that holds the artifact's files.
The file /etc/default/edgekit, where there is one, may set
  EDGEKIT_ROOT      the device's root folder (/var/lib/edgekit)
  EDGEKIT_SERVICE   the systemd unit that runs the model, and confirms it once it answers (edgekit.service)
  EDGEKIT_WAIT      seconds that it may take for that (60)
Exit status: 0 done, 1 failed, which Mender rolls back, 2 wrong command line.
END
}

refuse() {
    echo "edgekit: $1" >&2
    exit "${2:-1}"
}

board() { "$root/bin/edgekit-board" "$root" "$@"; }

# Prints "a", "b" or "-".
slot() { board status | sed -n "s/.*\"$1\": \"\([ab-]\)\".*/\1/p"; }

has_service() { command -v systemctl >/dev/null 2>&1 && systemctl cat "$service" >/dev/null 2>&1; }

restart_service() {
    if has_service; then systemctl restart "$service"; fi
}

install_bundle() {
    [ -x "$root/bin/edgekit-board" ] || refuse "$root/bin/edgekit-board is missing: edgekit flash brings it"
    set -- "$files"/files/*.edgekit
    if [ $# -ne 1 ] || [ ! -f "$1" ]; then refuse "the artifact must hold one bundle, a file that ends in .edgekit"; fi
    rm -rf "$bundle"
    mkdir -p "$bundle"
    tar -xf "$1" -C "$bundle"
    [ -f "$bundle/manifest.json.minisig" ] || refuse "the bundle is not signed"
    slot active >"$files/tmp/before"
    size=$(($(wc -c <"$bundle/manifest.json.minisig")))
    digest=$(sha256sum <"$bundle/manifest.json")
    digest=${digest%% *}
    status=0
    cat "$bundle/manifest.json.minisig" "$bundle/manifest.json" | board begin "$size" >"$files/tmp/wanted" || status=$?
    rm -f "$files/tmp/switched"
    # 4: the device runs this bundle already.
    [ "$status" -ne 4 ] || return 0
    [ "$status" -eq 0 ] || exit 1
    while read -r offset _ path <&3; do
        [ -f "$bundle/$path" ] || refuse "$path: missing from the bundle"
        tail -c "+$((offset + 1))" "$bundle/$path" | board put --of "$digest" "$path" "$offset" || exit 1
    done 3<"$files/tmp/wanted"
    board switch --of "$digest"
    : >"$files/tmp/switched"
    restart_service
}

# The service confirms by itself; where there is none, being asked to commit is enough.
commit() {
    if has_service; then
        while [ "$(slot trial)" != - ]; do
            [ "$wait" -gt 0 ] || refuse "$service did not confirm the bundle in time"
            wait=$((wait - 1))
            sleep 1
        done
    elif [ "$(slot trial)" != - ]; then
        board start >/dev/null
        board confirm
    fi
    if [ -f "$files/tmp/switched" ] && [ "$(slot active)" = "$(cat "$files/tmp/before")" ]; then
        refuse "the device took the bundle back"
    fi
}

# What was never switched to needs no way back.
go_back() {
    [ -f "$files/tmp/before" ] || return 0
    if [ "$(slot trial)" != - ] || [ "$(slot active)" != "$(cat "$files/tmp/before")" ]; then
        board back "Mender rolls back"
        restart_service
    fi
}

if [ "${1-}" = --help ] || [ "${1-}" = -h ]; then
    usage
    exit 0
fi
[ $# -eq 2 ] || {
    usage >&2
    exit 2
}
EDGEKIT_ROOT=${EDGEKIT_ROOT:-/var/lib/edgekit} EDGEKIT_SERVICE=${EDGEKIT_SERVICE:-edgekit.service} EDGEKIT_WAIT=${EDGEKIT_WAIT:-60}
# shellcheck source=/dev/null
if [ -f /etc/default/edgekit ]; then . /etc/default/edgekit; fi
state=$1 files=$2 root=$EDGEKIT_ROOT service=$EDGEKIT_SERVICE wait=$EDGEKIT_WAIT
bundle=$files/tmp/bundle
case $state in
    NeedsArtifactReboot) echo No ;;
    SupportsRollback) echo Yes ;;
    ArtifactInstall)
        mkdir -p "$files/tmp"
        install_bundle
        ;;
    ArtifactCommit) commit ;;
    ArtifactRollback) go_back ;;
    Cleanup) rm -rf "$bundle" ;;
    # Download is left to the client, which puts the payload into FILES/files; further states have nothing to do here.
    *) ;;
esac
