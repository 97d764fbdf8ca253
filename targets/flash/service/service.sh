#!/bin/sh
# Makes a device run its model as a service of systemd. It runs there, as root, with the files beside it.
set -eu

usage() {
    cat <<END
usage: sh service.sh [options] [ROOT]
Makes edgekit.service for the root folder ROOT (default: /var/lib/edgekit), and enables and starts it. It serves what
edgekit-board says, confirms a trial once it serves, and is started anew when it fails or hangs.
  --listen ADDRESS  unix:/run/edgekit/socket (default), unix:@name, tcp:127.0.0.1:7070 or tcp:*:7070 for other devices
  --threads N       (default: as many as there are cores)
  --memory SIZE     the most memory, as systemd's MemoryMax= takes it (default: 75%)
  --cpu PERCENT     the most of a core's time, as CPUQuota= takes it (default: 100% for each thread)
  --print           print the unit and do nothing
  --remove          stop it and take it away; the root folder stays
exit status: 0 done, 1 refused or failed, 2 wrong command line
END
}

refuse() {
    echo "service.sh: $1" >&2
    exit "${2:-1}"
}

root='' listen=unix:/run/edgekit/socket threads='' memory=75% cpu='' action=install
while [ $# -gt 0 ]; do
    case $1 in
        --listen | --threads | --memory | --cpu) [ $# -ge 2 ] || refuse "$1 needs a value (see --help)" 2 ;;
    esac
    case $1 in
        --listen)
            listen=$2
            shift
            ;;
        --threads)
            threads=$2
            shift
            ;;
        --memory)
            memory=$2
            shift
            ;;
        --cpu)
            cpu=$2
            shift
            ;;
        --print) action=print ;;
        --remove) action=remove ;;
        --help | -h)
            usage
            exit 0
            ;;
        -*) refuse "unknown option $1 (see --help)" 2 ;;
        *)
            [ -z "$root" ] || refuse "$1: one root folder (see --help)" 2
            root=$1
            ;;
    esac
    shift
done
root=${root:-/var/lib/edgekit}
threads=${threads:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)}
# What systemd would read otherwise than it is written has no business in a unit.
case $root in
    /*) ;;
    *) refuse "'$root' is no absolute path" 2 ;;
esac
case $root in
    *[!A-Za-z0-9/._+-]*) refuse "'$root': a service needs a root folder of letters, digits and ._+- alone" 2 ;;
esac
case $listen in
    unix:[/@]?* | tcp:*?:[0-9]*) ;;
    *) refuse "'$listen' is no address: unix:/path, unix:@name or tcp:host:port" 2 ;;
esac
case $listen in
    *[!]A-Za-z0-9/._+:@*[-]*) refuse "'$listen' is no address: unix:/path, unix:@name or tcp:host:port" 2 ;;
esac
case $threads in
    '' | *[!0-9]* | 0) refuse "--threads takes a number, not '$threads'" 2 ;;
esac
cpu=${cpu:-$((threads * 100))%}
printf '%s\n' "$memory" | grep -Eqx '[0-9]+[KMGT%]?|infinity' || refuse "--memory takes 300M or 75%, not '$memory'" 2
printf '%s\n' "$cpu" | grep -Eqx '[0-9]+%' || refuse "--cpu takes 150%, not '$cpu'" 2
# A root folder in a home is seen, and not written.
case $root in
    /home/* | /root/*) home=read-only ;;
    *) home=yes ;;
esac
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
unit=/etc/systemd/system/edgekit.service

print_unit() {
    sed -e "s|@ROOT@|$root|g" -e "s|@LISTEN@|$listen|g" -e "s|@THREADS@|$threads|g" -e "s|@MEMORY@|$memory|g" \
        -e "s|@CPU@|$cpu|g" -e "s|@HOME@|$home|g" "$here/edgekit.service"
}

if [ "$action" = print ]; then
    print_unit
    exit
fi
[ "$(id -u)" -eq 0 ] || refuse "a service takes root on the device: log in as root, or add --sudo"
[ -d /run/systemd/system ] || refuse "systemd does not run here: let your own init start targets/flash/serve.sh of edgekit"
case $root in
    /tmp/* | /var/tmp/* | /run/* | /dev/*) refuse "'$root': a service needs a root folder that stays" ;;
esac
if [ "$action" = remove ]; then
    systemctl disable --now edgekit.service 2>/dev/null || true
    rm -f "$unit" "$root/service"
    systemctl daemon-reload
    exit
fi
[ -x "$root/bin/edgekit-board" ] || refuse "$root/bin/edgekit-board is missing: flash a bundle first"
umask 022
# Each is whole before it has its name.
cp "$here/edgekit-service.sh" "$root/bin/edgekit-service.new"
chmod 755 "$root/bin/edgekit-service.new"
mv -f "$root/bin/edgekit-service.new" "$root/bin/edgekit-service"
print_unit >"$unit.new"
mv -f "$unit.new" "$unit"
# Whoever flashes a bundle later starts it by this.
echo 'systemctl restart edgekit.service' >"$root/service.new"
mv -f "$root/service.new" "$root/service"
systemctl daemon-reload
systemctl enable edgekit.service 2>/dev/null
systemctl reset-failed edgekit.service 2>/dev/null || true
systemctl restart edgekit.service || refuse "it does not start yet: journalctl -u edgekit, and edgekit device log"
echo "edgekit.service serves at $listen"
