#!/bin/sh
# The steps of edgekit.service, on the device: as root what edgekit-board does, as nobody in particular the model.
set -eu

usage() {
    cat <<END
usage: edgekit-service choose ROOT RUN | run ROOT RUN ADDRESS [THREADS] | confirm ROOT RUN
  choose   asks edgekit-board which slot to run, and leaves its folder in RUN/slot; a bundle that waits in a new root
           folder is checked and put on trial first
  run      serves the model of that slot at ADDRESS: unix:/path, unix:@name or tcp:host:port
  confirm  tells edgekit-board that this slot serves: a trial ends
END
}

if [ $# -lt 3 ]; then
    usage >&2
    exit 2
fi
step=$1 root=$2 run=$3
board=$root/bin/edgekit-board
case $step in
    choose)
        status=0
        slot=$("$board" "$root" start) || status=$?
        if [ "$status" -eq 3 ]; then
            "$board" "$root" switch
            slot=$("$board" "$root" start)
        elif [ "$status" -ne 0 ]; then
            exit "$status"
        fi
        printf '%s\n' "$slot" >"$run/slot"
        # A plan that is locked for this device is opened into the service's own folder, in memory.
        rm -f "$run/model.plan"
        if [ ! -f "$slot/model.plan" ]; then
            "$board" "$root" unlock "${slot##*/}" "$run/model.plan"
        fi
        ;;
    run)
        [ $# -ge 4 ] || { usage >&2; exit 2; }
        read -r slot <"$run/slot"
        plan=$slot/model.plan
        [ -f "$plan" ] || plan=$run/model.plan
        exec "$slot/edgekit-run" "$plan" --serve "$4" --threads "${5:-1}"
        ;;
    confirm)
        read -r slot <"$run/slot"
        "$board" "$root" confirm "${slot##*/}"
        ;;
    *)
        usage >&2
        exit 2
        ;;
esac
