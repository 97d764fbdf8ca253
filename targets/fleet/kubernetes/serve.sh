#!/bin/sh
# Runs the model that the node's root folder holds, until it is told to end. For the container that `edgekit fleet
# kubernetes` writes; ROOT and PORT are set there.
set -eu

case ${1-} in
    --help | -h)
        echo "usage: ROOT=/var/lib/edgekit PORT=7070 RUN=/tmp sh serve.sh"
        echo "Serves the slot that is to run at tcp:*:PORT. Exit status: that of edgekit-run, or 1 where nothing can be run."
        exit 0
        ;;
esac
service=$(dirname "$0")/edgekit-service.sh
sh "$service" choose "$ROOT" "$RUN"
exec sh "$service" run "$ROOT" "$RUN" "tcp:*:$PORT"
