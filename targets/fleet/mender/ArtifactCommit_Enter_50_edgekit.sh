#!/bin/sh
# A state script of Mender's: before an artifact is committed, has the device check once more, with all that runs on it
# by now, that the bundle on trial computes what it must.
set -eu

case ${1-} in
    --help | -h)
        echo "usage: ArtifactCommit_Enter_50_edgekit.sh"
        echo "EDGEKIT_ROOT, here or in /etc/default/edgekit, is the root folder (/var/lib/edgekit). Exit status: 0 well, 1 not."
        exit 0
        ;;
esac
EDGEKIT_ROOT=${EDGEKIT_ROOT:-/var/lib/edgekit}
# shellcheck source=/dev/null
if [ -f /etc/default/edgekit ]; then . /etc/default/edgekit; fi
board=$EDGEKIT_ROOT/bin/edgekit-board
slot=$("$board" "$EDGEKIT_ROOT" status | sed -n 's/.*"trial": "\([ab]\)".*/\1/p')
# A service that has answered may have ended the trial already.
[ -n "$slot" ] || exit 0
"$board" "$EDGEKIT_ROOT" check "$slot"
