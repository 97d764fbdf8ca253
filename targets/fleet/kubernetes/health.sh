#!/bin/sh
# Ends with status 0 where the model on this node answers; with --confirm, its bundle stays from then on. For the probes
# of what `edgekit fleet kubernetes` writes; ROOT and PORT are set there.
set -eu

usage() {
    echo "usage: ROOT=/var/lib/edgekit PORT=7070 RUN=/tmp sh health.sh [--confirm]"
    echo "Exit status: 0 it answers, 1 it does not, 2 wrong command line."
}

confirm=''
case ${1-} in
    '') ;;
    --confirm) confirm=1 ;;
    --help | -h)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 2
        ;;
esac
# Whoever connects is greeted by a frame that begins with these four bytes. What is sent is no frame, so that the server
# ends the connection.
greeting=$(echo goodbye | nc -w 5 127.0.0.1 "$PORT" | dd bs=4 count=1 2>/dev/null)
[ "$greeting" = EKSV ] || {
    echo "health.sh: nothing answers at port $PORT" >&2
    exit 1
}
if [ -n "$confirm" ]; then sh "$(dirname "$0")/edgekit-service.sh" confirm "$ROOT" "$RUN"; fi
