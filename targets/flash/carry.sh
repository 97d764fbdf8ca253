# What ssh.sh and dir.sh share: the steps that bring a bundle to edgekit-board on a device. Not a program by itself.
#
# Whoever includes this sets `name` (of the script), and defines
#   far LINE       runs a command line in the device's shell, with this script's standard input
#   link_broke N   says whether an exit status of far is the link's and not the command's
#   far_emulator   holds the words before a program of the device's CPU, where it takes some
#   denied         prints what to do where the root folder may not be written
#
# What a device must trust is decided there, by edgekit-board. Each line printed on standard output begins with the step:
#   program kept | sent VERSION     edgekit-board on the device
#   adopt KEY...                    the root folder was made; these keys may sign
#   patch BYTES SIZE PATH           a file of SIZE bytes that was made of the one there, by a recipe of BYTES
#   begin BYTES MISSING             what the bundle holds, and what of it has to travel
#   put OFFSET SIZE PATH            a file that travels, from OFFSET on
#   at BYTES                        so many have arrived since the begin
#   again REASON                    the link broke; from the begin on once more
#   health JSON                     the check on the device: layers that are equal, microseconds, bytes
#   present trial | active SLOT     the device runs this bundle already
#   trial SLOT                      put on trial; three starts without `confirm` take it back
#   service WORDS                   a service was made
#   confirmed SLOT                  it stays
# shellcheck shell=sh

: "${name:?this is a part of ssh.sh and dir.sh}"
root='' far_root='' far_emulator=''
: "${here:?the folder of these scripts}"
# Bytes of a file from which on a recipe is tried.
patch_from=32768
LC_ALL=C
export LC_ALL

options_help() {
    cat <<END
  --key FILE       a public key that may sign for the device: for one that has no root folder yet; may be given often
  --program FILE   the edgekit-board for a device that has none (default: the bundle's)
  --renew-program  put the program there even where one is
  --recipe-maker WORDS
                   a command for large files, quoted as for a shell: WORDS CHUNKS BUNDLE PATH prints the recipe that makes
                   the file of the one there, whose chunks are in the file CHUNKS (default: files travel whole)
  --no-start       leave the bundle on trial: whatever starts it there confirms it
  --service        make the device run its model as a service of systemd, which takes root there
  --listen ADDRESS where that serves: unix:/run/edgekit/socket (default), tcp:*:7070 for other devices
  --tries N        how often to go on after a broken link, from where it broke (default: 3)
  --help
END
}

refuse() {
    echo "$name: $1" >&2
    exit "${2:-1}"
}

# Prints a word so that a shell reads it as that word.
quote() {
    printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"
}

# Sets bundle, address, keys (the second lines of the files), program, renew, start, tries, service, listen, and sudo
# (words before what runs there).
read_words() {
    bundle='' address='' keys='' program='' renew='' maker='' start=1 tries=3 sudo='' service='' listen=''
    while [ $# -gt 0 ]; do
        case $1 in
            --key | --program | --tries | --listen | --recipe-maker)
                [ $# -ge 2 ] || refuse "$1 needs a value (see --help)" 2
                ;;
        esac
        case $1 in
            --key)
                read_key "$2"
                shift
                ;;
            --program)
                program=$2
                shift
                ;;
            --recipe-maker)
                maker=$2
                shift
                ;;
            --tries)
                tries=$2
                shift
                ;;
            --listen)
                listen=$2
                shift
                ;;
            --service) service=1 ;;
            --renew-program) renew=1 ;;
            --sudo) sudo='sudo -n ' ;;
            --no-start) start='' ;;
            --help | -h)
                usage
                exit 0
                ;;
            -*) refuse "unknown option $1 (see --help)" 2 ;;
            *)
                if [ -z "$bundle" ]; then
                    bundle=$1
                elif [ -z "$address" ]; then
                    address=$1
                else
                    refuse "$1: one bundle and one address (see --help)" 2
                fi
                ;;
        esac
        shift
    done
    [ -n "$address" ] || refuse "which bundle, and where to? (see --help)" 2
    [ -n "$service" ] || [ -z "$listen" ] || refuse "--listen goes with --service" 2
    [ -z "$service" ] || [ -n "$start" ] || refuse "--service starts the bundle: leave --no-start out" 2
    case $tries in
        '' | *[!0-9]*) refuse "--tries takes a number, not '$tries'" 2 ;;
    esac
    [ -f "$bundle/manifest.json" ] || refuse "$bundle: no bundle: the folder holds no manifest.json"
    [ -f "$bundle/manifest.json.minisig" ] ||
        refuse "$bundle is not signed, and devices take only what is signed: edgekit keygen team, then edgekit sign $bundle --key team.key"
    [ -n "$program" ] || program=$bundle/edgekit-board
    signature_size=$(($(wc -c <"$bundle/manifest.json.minisig")))
    manifest_digest=$(sha256sum <"$bundle/manifest.json")
    manifest_digest=${manifest_digest%% *}
}

# Adds the second line of a public key's file to `keys`.
read_key() {
    [ -f "$1" ] || refuse "$1: no such key"
    key_row=$(sed -n 2p "$1" | tr -d '\r')
    case $key_row in
        '' | *[!A-Za-z0-9+/=]*) refuse "$1: no public key: the file NAME.pub that edgekit keygen writes" ;;
    esac
    keys="$keys $key_row"
}

make_scratch() {
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/edgekit-flash.XXXXXX") || refuse "no room for a temporary folder"
    trap clean EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

clean() {
    if command -v close_link >/dev/null 2>&1; then close_link; fi
    rm -rf "$scratch"
}

# What the device said last on its error stream, without its program's name.
reason() {
    sed -n '/[^[:space:]]/p' "$scratch/errors" | tail -n 1 | sed 's/^edgekit-board: //'
}

# Runs edgekit-board there.
board() {
    line="$far_program $far_root"
    for word in "$@"; do line="$line $(quote "$word")"; done
    try_far "$line"
}

must() {
    status=0
    "$@" || status=$?
    [ "$status" -eq 0 ] || give_up "$status"
}

give_up() {
    [ "$1" -ne 75 ] || exit 75
    said=$(reason)
    case $said in
        *'No space left on device'*) refuse "no room on the device: $said" ;;
        *'Permission denied'* | *'Read-only file system'*) refuse "$said: $(denied)" ;;
        '') refuse "the device's program ended with status $1 and said nothing" ;;
    esac
    refuse "$said"
}

# Sets version to that of the program there, or to nothing, adopted to whether there is a root folder, and served to
# whether a service runs its model.
look() {
    far_path=$(quote "$root/bin/edgekit-board")
    far_program=$far_emulator$far_path
    must try_far "[ ! -e $far_path ] || $far_program --version; [ ! -e $far_root/lock ] || echo adopted
[ ! -e $far_root/service ] || echo served" </dev/null >"$scratch/there"
    version=$(sed -n 's/^edgekit-board //p' "$scratch/there")
    adopted=$(sed -n '/^adopted$/p' "$scratch/there")
    served=$(sed -n '/^served$/p' "$scratch/there")
}

# Runs a command line there. What fails for the link's sake ends in status 75, and with it the try.
try_far() {
    far_status=0
    far "${sudo}sh -c $(quote "$1")" 2>"$scratch/errors" || far_status=$?
    if link_broke "$far_status"; then return 75; fi
    return "$far_status"
}

# Puts edgekit-board there where there is none: whole, or not at all.
bring_program() {
    if [ -n "$version" ] && [ -z "$renew" ]; then
        echo "program kept $version"
        return
    fi
    [ -f "$program" ] ||
        refuse "$program: missing: the device has no edgekit-board yet; deploy the bundle anew, or name one with --program"
    size=$(($(wc -c <"$program")))
    # shellcheck disable=SC2016 # the device's shell reads it
    line='set -e; umask 022; mkdir -p "$d/bin"; n="$d/bin/edgekit-board.$$"; trap '\''rm -f "$n"'\'' EXIT; cat >"$n"
[ "$(wc -c <"$n")" -eq "$s" ]; chmod 755 "$n"
$e"$n" --version || { echo "edgekit-board of this bundle does not run on this $(uname -m): was the bundle made for this board?" >&2; exit 1; }
sync; mv -f "$n" "$d/bin/edgekit-board"'
    must try_far "d=$far_root; s=$size; e=$(quote "$far_emulator"); $line" <"$program" >"$scratch/there"
    version=$(sed -n 's/^edgekit-board //p' "$scratch/there")
    echo "program sent $version"
}

# Makes the root folder where there is none.
adopt_device() {
    [ -z "$adopted" ] || return 0
    [ -n "$keys" ] ||
        refuse "$address has no root folder yet: name the public key that may sign for it, --key team.pub"
    cat "$bundle/manifest.json.minisig" "$bundle/manifest.json" >"$scratch/signed"
    # shellcheck disable=SC2086 # words of base64
    must board adopt "$signature_size" $keys <"$scratch/signed"
    echo "adopt$keys"
}

# Brings what is missing. Sets `slot` where the device runs the bundle already, and `present` to how.
carry_files() {
    present='' slot=''
    cat "$bundle/manifest.json.minisig" "$bundle/manifest.json" >"$scratch/signed"
    status=0
    board begin "$signature_size" <"$scratch/signed" >"$scratch/wanted" || status=$?
    if [ "$status" -eq 4 ]; then
        read -r present slot <"$scratch/wanted"
        echo "present $present $slot"
        return
    fi
    [ "$status" -eq 0 ] || give_up "$status"
    [ -z "$maker" ] || patch_files
    missing=0
    set --
    while read -r offset size path; do
        [ -f "$bundle/$path" ] || refuse "$bundle/$path: missing, but listed in manifest.json"
        missing=$((missing + size - offset))
        set -- "$@" "$path" "$offset"
    done <"$scratch/wanted"
    echo "begin $(count_bytes) $missing"
    [ $# -gt 0 ] || return 0
    sed 's/^/put /' "$scratch/wanted"
    put_files "$@" | sed_at
    status=$(cat "$scratch/status")
    [ "$status" -eq 0 ] || give_up "$status"
}

# Makes of what the device has what it lacks, where the recipe is shorter than the file. What fails is sent whole.
patch_files() {
    : >"$scratch/left"
    while read -r offset size path; do
        if [ $((size - offset)) -ge "$patch_from" ] && patch_file </dev/null; then
            echo "patch $recipe_size $size $path"
        else
            echo "$offset $size $path" >>"$scratch/left"
        fi
    done <"$scratch/wanted"
    mv "$scratch/left" "$scratch/wanted"
}

patch_file() {
    status=0
    board chunks "$path" >"$scratch/chunks" || status=$?
    [ "$status" -ne 75 ] || exit 75
    [ "$status" -eq 0 ] || return 1
    eval "$maker $(quote "$scratch/chunks") $(quote "$bundle") $(quote "$path")" >"$scratch/recipe" || return 1
    recipe_size=$(($(wc -c <"$scratch/recipe")))
    [ "$recipe_size" -lt $((size - offset)) ] || return 1
    board patch --of "$manifest_digest" "$path" <"$scratch/recipe" || status=$?
    [ "$status" -ne 75 ] || exit 75
    # Of what came before nothing is left, whether the recipe was followed or not.
    offset=0
    [ "$status" -eq 0 ]
}

# Sends the rest of each file that is wanted; leaves the exit status in a file, since it runs in a pipe.
put_files() {
    status=0
    while read -r offset size path; do
        tail -c "+$((offset + 1))" "$bundle/$path" || exit 1
    done <"$scratch/wanted" | board put --of "$manifest_digest" "$@" || status=$?
    echo "$status" >"$scratch/status"
}

# Writes each line at once, which sed may not.
sed_at() {
    while read -r there; do echo "at $there"; done
}

# Prints the bytes of all files of the bundle.
count_bytes() {
    (cd "$bundle" && find . -type f ! -path ./manifest.json ! -path ./manifest.json.minisig -exec wc -c {} \;) |
        { total=0; while read -r count _; do total=$((total + count)); done; echo "$total"; }
}

# All steps, from the program to the confirmation.
flash() {
    look
    bring_program
    adopt_device
    carry_files
    if [ -z "$present" ]; then
        must board switch --of "$manifest_digest" </dev/null >"$scratch/health"
        echo "health $(tr -s ' \n' ' ' <"$scratch/health")"
        slot=$(sed -n 's/.*"slot": "\([ab]\)".*/\1/p' "$scratch/health")
        echo "trial $slot"
        present=trial
    fi
    if [ -n "$service" ]; then
        install_service
    elif [ "$present" = active ] || [ -z "$start" ]; then
        return
    elif [ -n "$served" ]; then
        restart_service
    else
        must board start </dev/null >"$scratch/started"
        must board confirm "$slot" </dev/null
        echo "confirmed $slot"
    fi
}

# Makes a service there, by the files in the folder service, which go as one script.
install_service() {
    set --
    [ -z "$listen" ] || set -- --listen "$listen"
    # shellcheck disable=SC2016 # the device's shell reads it
    {
        echo 'set -e; t=$(mktemp -d); trap '\''rm -rf "$t"'\'' EXIT'
        for file in edgekit.service edgekit-service.sh service.sh; do
            echo "cat >\"\$t/$file\" <<'END OF THE FILE'"
            # shellcheck disable=SC2154 # whoever includes this sets it
            cat "$here/service/$file"
            echo 'END OF THE FILE'
        done
        printf 'sh "$t/service.sh"'
        for word in "$@" "$root"; do printf ' %s' "$(quote "$word")"; done
        echo
    } >"$scratch/service"
    status=0
    try_far 'sh -s' <"$scratch/service" >"$scratch/there" || status=$?
    case $status in
        0) echo "service $(tail -n 1 "$scratch/there")" ;;
        75) exit 75 ;;
        *) grep -q 'does not start yet' "$scratch/errors" || give_up "$status" ;;
    esac
    wait_for_service
}

restart_service() {
    status=0
    try_far "sh $far_root/service" </dev/null >"$scratch/there" || status=$?
    [ "$status" -ne 75 ] || exit 75
    # One that fails to start is started again and, in the end, taken back: what comes of it counts.
    grep -qi 'permission denied\|authentication\|access denied' "$scratch/errors" && give_up "$status"
    wait_for_service
}

# Waits until the trial has ended, one way or the other.
wait_for_service() {
    waited=0
    while true; do
        must board status </dev/null >"$scratch/state"
        trial=$(sed -n 's/.*"trial": "\(.*\)".*/\1/p' "$scratch/state")
        active=$(sed -n 's/.*"active": "\(.*\)".*/\1/p' "$scratch/state")
        [ "$trial" != - ] || break
        [ "$waited" -lt 600 ] || refuse "the service has not confirmed slot $slot after 600 s; it stays on trial"
        sleep 1
        waited=$((waited + 1))
    done
    if [ "$active" = "$slot" ]; then
        echo "confirmed $slot"
        return
    fi
    must board log </dev/null >"$scratch/log"
    refuse "the device took the bundle back: $(tail -n 1 "$scratch/log" | cut -d ' ' -f 3-); journalctl -u edgekit there says why"
}

# Goes on after broken links, each time from where the last one broke.
flash_with_patience() {
    try=0
    while true; do
        status=0
        (flash) || status=$?
        [ "$status" -eq 75 ] || exit "$status"
        try=$((try + 1))
        said=$(reason)
        broken="the link broke${said:+: $said}"
        [ "$try" -lt "$tries" ] || refuse "$broken; run this again: it goes on where it stopped" 3
        echo "again $broken"
        sleep 1
    done
}
