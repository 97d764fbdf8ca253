#!/bin/sh
# Builds the TensorRT engine of this folder's network on the board itself: engines hold for one GPU and one TensorRT.
set -eu

usage() {
    cat <<EOF
usage: sh build-engine.sh [options]
  --output FILE        the engine to write (default: model.engine beside this script)
  --timing-cache FILE  kernels' times, read if there and written (default: timing.cache beside this script)
  --no-timing-cache    time every kernel anew
  --dla CORE           build for a deep learning accelerator; what it cannot hold runs on the GPU
  --no-fp16            leave layers without int8 in float32 instead of float16
  --workspace MIB      memory that building may use (default: 1024)
  --trtexec FILE       the program, where it is neither on PATH nor in /usr/src/tensorrt/bin
  --dry-run            print the command and do nothing
EOF
}

refuse() {
    echo "build-engine: $1" >&2
    exit 1
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
[ -f "$here/engine.conf" ] || refuse "$here/engine.conf is missing: copy the whole folder to the board"
precision=
dla_cores=0
# shellcheck source=/dev/null
. "$here/engine.conf"

output=$here/model.engine
cache=$here/timing.cache
dla=
fp16=1
workspace=1024
program=
dry=
while [ $# -gt 0 ]; do
    case $1 in
        --output | --timing-cache | --dla | --workspace | --trtexec)
            [ $# -ge 2 ] || refuse "$1 needs a value (see --help)"
            ;;
    esac
    case $1 in
        --output) output=$2; shift ;;
        --timing-cache) cache=$2; shift ;;
        --no-timing-cache) cache= ;;
        --dla) dla=$2; shift ;;
        --no-fp16) fp16= ;;
        --workspace) workspace=$2; shift ;;
        --trtexec) program=$2; shift ;;
        --dry-run) dry=1 ;;
        --help | -h) usage; exit 0 ;;
        *) refuse "unknown option $1 (see --help)" ;;
    esac
    shift
done

case $workspace in
    '' | *[!0-9]*) refuse "--workspace takes a number of MiB, not '$workspace'" ;;
esac
if [ -z "$program" ]; then
    program=$(command -v trtexec || true)
    [ -n "$program" ] || program=/usr/src/tensorrt/bin/trtexec
fi
[ -x "$program" ] || refuse "trtexec is missing ($program): install TensorRT (on a Jetson: sudo apt install nvidia-jetpack), or name it with --trtexec"

# Options differ between versions of TensorRT: what the program's help lists is used.
help=$("$program" --help 2>&1 || true)
has() {
    case $help in
        *"$1"*) return 0 ;;
        *) return 1 ;;
    esac
}

model=$here/model.onnx
set --
if [ -n "$dla" ]; then
    case $dla in
        *[!0-9]*) refuse "--dla takes the number of a core, not '$dla'" ;;
    esac
    [ "$dla" -lt "$dla_cores" ] || refuse "this board has $dla_cores DLA cores: there is no core $dla"
    has --useDLACore || refuse "$program knows no DLA"
    [ -n "$fp16" ] || refuse "DLA computes int8 and float16 alone: leave --no-fp16 out"
    model=$here/model.dla.onnx
    [ -f "$here/model.dla.ranges" ] && [ -f "$model" ] || refuse "the files for DLA are missing: copy the whole folder to the board"
    version=$(printf '%s\n' "$help" | sed -n 's/.*\[TensorRT v\([0-9]*\)\].*/\1/p' | head -n 1)
    [ -n "$version" ] || refuse "$program does not tell its version"
    set -- "--calib=$here/model.dla.cache" "--useDLACore=$dla" --allowGPUFallback
fi
[ -f "$model" ] || refuse "$model is missing: copy the whole folder to the board"

if [ "$precision" = int8 ] && has --int8; then
    set -- "$@" --int8
fi
if [ -n "$fp16" ] && has --fp16; then
    set -- "$@" --fp16
fi
if [ -n "$cache" ]; then
    has --timingCacheFile || refuse "$program keeps no timing cache: add --no-timing-cache"
    set -- "$@" "--timingCacheFile=$cache"
fi
if has --memPoolSize; then
    set -- "$@" "--memPoolSize=workspace:$workspace"
else
    set -- "$@" "--workspace=$workspace"
fi
if has --skipInference; then
    set -- "$@" --skipInference
elif has --buildOnly; then
    set -- "$@" --buildOnly
fi
set -- "$program" "--onnx=$model" "--saveEngine=$output.part" "$@"

if [ -n "$dry" ]; then
    printf '%s\n' "$@"
    exit 0
fi
if [ -n "$dla" ]; then
    # The first line names the version that reads the file.
    { echo "TRT-$version-EntropyCalibration2"; cat "$here/model.dla.ranges"; } >"$here/model.dla.cache"
fi
rm -f "$output.part"
"$@" || refuse "trtexec failed; without an engine the network runs on the CPU: edgekit-run model.plan"
[ -s "$output.part" ] || refuse "trtexec reported no error and wrote no engine"
mv "$output.part" "$output"
echo "written: $output"
