#!/bin/sh
# Runs the model that the node's root folder holds, until it is told to end. For the container that `edgekit fleet
# kubernetes` writes; ROOT and PORT are set there.
set -eu

case ${1-} in
    --help | -h)
        echo "usage: ROOT=/var/lib/edgekit PORT=7070 sh serve.sh"
        echo "Serves the slot that is to run at tcp:*:PORT. Exit status: that of edgekit-run, or 1 where nothing is installed."
        exit 0
        ;;
esac
slot=$("$ROOT/bin/edgekit-board" "$ROOT" start) || {
    echo "serve.sh: nothing is installed in $ROOT" >&2
    exit 1
}
exec "$slot/edgekit-run" "$slot/model.plan" --serve "tcp:*:$PORT"
