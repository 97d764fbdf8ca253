#!/bin/sh
# Serves the model of a root folder where no systemd does: on a card that runs nothing else, started anew by busybox init.
set -eu

usage() {
    cat <<END
usage: sh serve.sh [ROOT [ADDRESS]]
Starts what edgekit-board says (default ROOT: /var/lib/edgekit) and serves it at ADDRESS (default: tcp:*:7070, or what
edgekit.serve=ADDRESS on the kernel's command line says). A bundle that an image brought is checked first. What is on
trial is confirmed once it serves; ends when the program does.
exit status: 0 or the program's; 1 failed, 2 wrong command line
END
}

case ${1:-} in
    --help | -h) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
esac
[ $# -le 2 ] || { usage >&2; exit 2; }
root=${1:-/var/lib/edgekit}
address=${2:-}
if [ -z "$address" ]; then
    address='tcp:*:7070'
    # shellcheck disable=SC2013 # words, not lines
    for word in $(cat /proc/cmdline); do
        case $word in
            edgekit.serve=*) address=${word#*=} ;;
        esac
    done
fi
board=$root/bin/edgekit-board

# Whoever starts this anew at once should not do so too often.
give_up() {
    sleep 5
    exit 1
}

status=0
slot=$("$board" "$root" start) || status=$?
if [ $status -eq 3 ]; then
    "$board" "$root" switch || give_up
    slot=$("$board" "$root" start) || give_up
elif [ $status -ne 0 ]; then
    give_up
fi
plan=$slot/model.plan
if [ -f "$plan.age" ]; then
    # In the clear it lies in memory alone.
    plan=/run/edgekit/model.plan
    mkdir -p "${plan%/*}"
    chmod 700 "${plan%/*}"
    rm -f "$plan"
    "$board" "$root" unlock "${slot##*/}" "$plan" || give_up
fi
"$slot/edgekit-run" "$plan" --serve "$address" | while read -r line; do
    echo "$line"
    case $line in
        'serving at '*) "$board" "$root" confirm "${slot##*/}" ;;
    esac
done
