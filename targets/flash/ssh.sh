#!/bin/sh
# Brings a bundle to a device over ssh, checks it there, and switches to it.
set -eu

name=ssh.sh
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=carry.sh
. "$here/carry.sh"

usage() {
    cat <<END
usage: ssh.sh [options] BUNDLE ssh://[user@]host[:port][/absolute/root]
Brings the bundle in the folder BUNDLE to a device: whole and checked there before it runs, or not at all.
The root folder on the device is /var/lib/edgekit unless the address names one.

$(options_help)
  --sudo           do it as root there, by a sudo that asks for no password

The environment's EDGEKIT_SSH_OPTIONS holds further words for ssh, quoted as for a shell.
Exit status: 0 done, 1 refused or failed, 2 wrong command line, 3 the link broke: run it again, it goes on.
END
}

# Sets login, port and root from the address.
read_address() {
    rest=${address#ssh://}
    [ "$rest" != "$address" ] || refuse "$address: an address looks like ssh://[user@]host[:port][/absolute/root]" 2
    login=${rest%%/*}
    root=/var/lib/edgekit
    if [ "$login" != "$rest" ] && [ -n "${rest#*/}" ]; then root=/${rest#*/}; fi
    user=${login%@*}
    place=${login##*@}
    port=''
    case $place in
        \[*\]:*) port=${place##*]:} place=${place%:*} ;;
        \[*\]) ;;
        *:*) port=${place##*:} place=${place%:*} ;;
    esac
    place=${place#[}
    place=${place%]}
    login=$place
    [ "$user" = "${rest%%/*}" ] || login=$user@$place
    case $login$port in
        -* | *[!A-Za-z0-9@._:%+\$-]*) refuse "$address: no address of a device" 2 ;;
    esac
    case $port in
        *[!0-9]*) refuse "$address: '$port' is no port" 2 ;;
    esac
    case "$root/" in
        */../* | */./* | *//*) refuse "$address: '$root' is no absolute path of a folder without . and .." 2 ;;
    esac
}

far() {
    eval "set -- $(quote "$1") ${EDGEKIT_SSH_OPTIONS:-}"
    line=$1
    shift
    # Who gave an open connection by -o ControlPath wins: ssh takes the first of each option.
    ssh "$@" ${port:+-p "$port"} -o "ControlPath=$scratch/c" -o ControlMaster=auto -o ControlPersist=30 \
        -o ConnectTimeout=10 -o ServerAliveInterval=5 -o ServerAliveCountMax=4 -T -- "$login" "$line"
}

link_broke() { [ "$1" -eq 255 ]; }

close_link() {
    [ ! -S "$scratch/c" ] || ssh -o "ControlPath=$scratch/c" -O exit -- "$place" >/dev/null 2>&1 || true
}

denied() {
    echo "log in as root, give $login that folder once (ssh -t $login sudo install -d -o '\$USER' $root), add --sudo, or name a folder of your own: ssh://$login/home/${user:-you}/edgekit"
}

command -v ssh >/dev/null 2>&1 ||
    refuse "reaching a device needs ssh: install OpenSSH's client (Debian, Ubuntu: apt install openssh-client)"
read_words "$@"
read_address
far_root=$(quote "$root")
make_scratch
flash_with_patience
