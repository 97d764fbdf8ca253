#!/bin/sh
# Runs a command on a device and reads files of /sys before, while and after it runs: counters of energy, currents,
# temperatures, clocks. For `edgekit bench --on`, which reads what is printed. Any POSIX shell does, busybox's too.
set -u
LC_ALL=C
export LC_ALL

usage() {
    cat <<TEXT
usage: sh sample.sh [options] --output FILE -- COMMAND...
  --sys ROOT        the files to watch and note are under ROOT
  --watch FILE      a file to read again and again; may be given often
  --note FILE       a file to read before and after; may be given often
  --interval S      seconds between readings (0.2; whole ones where sleep takes no others)
  --idle COUNT      readings before the command starts (0)
  --output FILE     takes what the command prints; FILE.status beside it is written too

A line each, values in the order of --watch and - where one can't be read:
  edgekit-sample 1
  note before FILE TEXT
  idle SECONDS VALUE...       SECONDS since the device started
  run SECONDS VALUE...        the first at the command's start, the last at its end
  status NUMBER
  note after FILE TEXT
  end
TEXT
}

root='' watched='' noted='' interval=0.2 idle=0 output=''
while [ $# -gt 0 ]; do
    case $1 in
        --help)
            usage
            exit 0
            ;;
        --)
            shift
            break
            ;;
        --sys | --watch | --note | --interval | --idle | --output)
            [ $# -ge 2 ] || { usage >&2; exit 2; }
            case $1 in
                --sys) root=${2%/} ;;
                --watch) watched="$watched $2" ;;
                --note) noted="$noted $2" ;;
                --interval) interval=$2 ;;
                --idle) idle=$2 ;;
                --output) output=$2 ;;
            esac
            shift 2
            ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
done
if [ -z "$output" ] || [ $# -eq 0 ]; then
    usage >&2
    exit 2
fi

# Only built-ins: what reading costs is taken from what is measured.
sample() {
    read -r now _ </proc/uptime
    row="$1 $now"
    for file in $watched; do
        value=-
        read -r value _ 2>/dev/null <"$root$file" || [ -n "$value" ] || value=-
        row="$row ${value:--}"
    done
    echo "$row"
}

note() {
    for file in $noted; do
        [ -r "$root$file" ] || continue
        text=
        read -r text 2>/dev/null <"$root$file"
        echo "note $1 $file $text"
    done
    if [ -z "$root" ] && command -v vcgencmd >/dev/null 2>&1; then
        vcgencmd get_throttled 2>/dev/null | while read -r text; do
            echo "note $1 vcgencmd $text"
        done
    fi
}

sleep "$interval" 2>/dev/null || interval=1
rm -f "$output.status"
echo 'edgekit-sample 1'
note before
count=0
while [ "$count" -lt "$idle" ]; do
    sample idle
    sleep "$interval"
    count=$((count + 1))
done
[ "$idle" -eq 0 ] || sample idle

sample run
(
    "$@" >"$output" 2>"$output.errors" </dev/null
    code=$?
    # The last reading is taken at once, whoever sleeps.
    sample run >"$output.last"
    echo "status $code" >>"$output.last"
    mv "$output.last" "$output.status"
) &
child=$!
sleep "$interval"
while [ ! -f "$output.status" ]; do
    row=$(sample run)
    # A reading that the end overtook would come behind the last one.
    [ -f "$output.status" ] || echo "$row"
    sleep "$interval"
done
wait "$child"
cat "$output.status"
note after
echo end
