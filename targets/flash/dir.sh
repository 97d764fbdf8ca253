#!/bin/sh
# Brings a bundle into a root folder of this machine, checks it, and switches to it.
set -eu

name=dir.sh
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=carry.sh
. "$here/carry.sh"

usage() {
    cat <<END
usage: dir.sh [options] BUNDLE dir:///absolute/root
Brings the bundle in the folder BUNDLE into a root folder here: of this machine, or of a board's file system that lies
here. Programs of another CPU run where the environment's EDGEKIT_EMULATOR names an emulator: 'qemu-aarch64-static -cpu
cortex-a72'.

$(options_help)

Exit status: 0 done, 1 refused or failed, 2 wrong command line.
END
}

far() { sh -c "$1"; }

link_broke() { false; }

denied() { echo "run this as a user who may write $root"; }

read_words "$@"
[ -z "$sudo" ] || refuse "--sudo is for ssh.sh: run this by sudo instead" 2
root=${address#dir://}
case $address in
    dir:///?*) ;;
    *) refuse "$address: an address looks like dir:///absolute/root" 2 ;;
esac
far_root=$(quote "$root")
far_emulator=${EDGEKIT_EMULATOR:+$EDGEKIT_EMULATOR }
make_scratch
flash_with_patience
