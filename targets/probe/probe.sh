#!/bin/sh
# Prints what Linux tells of a device, for `edgekit targets probe --dump`: files of /proc and /sys as they are, and
# which libraries of accelerators there are. It writes nothing and needs no root; what only root may read is named.
# Any POSIX shell does, busybox's too.
set -u
LC_ALL=C
export LC_ALL

usage() {
    cat <<TEXT
usage: sh probe.sh [--sys ROOT] > device.txt
  --sys ROOT   read ROOT/proc, ROOT/sys, ROOT/etc and ROOT/usr instead, and run no commands

The output has a line for each thing, and its content behind a space each line:
  edgekit-probe 1          the format
  == PATH                  a file's content follows
  =! PATH                  a file that may not be read
  =@ PATH                  a file that is there; its content does not matter
  =\$ WORDS                 what a command printed follows
  =. end
TEXT
}

root=
while [ $# -gt 0 ]; do
    case $1 in
        --sys)
            [ $# -ge 2 ] || { usage >&2; exit 2; }
            root=${2%/}
            shift 2
            ;;
        --help)
            usage
            exit 0
            ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
done

# Lines of the standard input, each behind a space, less a board's serial number. Only built-ins: there are hundreds of
# files.
quote() {
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in Serial*) continue ;; esac
        printf ' %s\n' "$line"
    done
}

# A file's text.
show() {
    for path in "$@"; do
        [ -f "$path" ] || continue
        if [ -r "$path" ]; then
            printf '== %s\n' "${path#"$root"}"
            quote 2>/dev/null <"$path"
        else
            printf '=! %s\n' "${path#"$root"}"
        fi
    done
}

# A property of the device tree: strings that end in NUL.
show_strings() {
    for path in "$@"; do
        [ -r "$path" ] || continue
        printf '== %s\n' "${path#"$root"}"
        tr '\000' '\n' <"$path" | quote
    done
}

# Files and device nodes that are there.
name_files() {
    for path in "$@"; do
        [ -e "$path" ] && printf '=@ %s\n' "${path#"$root"}"
    done
}

run() {
    [ -z "$root" ] || return 0
    command -v "$1" >/dev/null 2>&1 || return 0
    printf '=$ %s\n' "$*"
    "$@" 2>&1 </dev/null | quote
}

echo 'edgekit-probe 1'
run uname -s
run uname -m
run uname -r
run getconf GNU_LIBC_VERSION
run getconf LONG_BIT
if [ -z "$root" ] && command -v od >/dev/null 2>&1; then
    echo '=$ od /proc/self/auxv'
    od -A n -v -t x1 /proc/self/auxv 2>/dev/null | quote
fi
show "$root/proc/cpuinfo" "$root/proc/meminfo" "$root/proc/version" "$root/proc/sys/kernel/arch"
show "$root/etc/os-release"
[ -f "$root/etc/os-release" ] || show "$root/usr/lib/os-release"
tree=$root/proc/device-tree
show_strings "$tree/model" "$tree/compatible" "$tree/hypervisor/compatible"
for name in sys_vendor product_name board_vendor board_name; do
    show "$root/sys/class/dmi/id/$name"
done
show "$root/sys/hypervisor/type"
show "$root/sys/devices/system/clocksource/clocksource0/available_clocksource"
show "$root/etc/nv_tegra_release" "$root/usr/local/cuda/version.json"

cpus=$root/sys/devices/system/cpu
show "$cpus/online"
for cpu in "$cpus"/cpu[0-9]*; do
    show "$cpu/regs/identification/midr_el1" "$cpu/cpu_capacity" "$cpu/topology/thread_siblings_list"
    for name in cpuinfo_max_freq cpuinfo_min_freq scaling_max_freq scaling_governor scaling_driver scaling_cur_freq; do
        show "$cpu/cpufreq/$name"
    done
    for index in "$cpu"/cache/index[0-9]*; do
        show "$index/level" "$index/type" "$index/size" "$index/shared_cpu_list"
    done
done

for zone in "$root"/sys/class/thermal/thermal_zone[0-9]*; do
    show "$zone/type" "$zone/temp" "$zone"/trip_point_[0-9]*_type "$zone"/trip_point_[0-9]*_temp
done
for cooler in "$root"/sys/class/thermal/cooling_device[0-9]*; do
    show "$cooler/type" "$cooler/cur_state" "$cooler/max_state"
done
for sensor in "$root"/sys/class/hwmon/hwmon[0-9]*; do
    show "$sensor/name"
    show "$sensor"/power[0-9]*_label "$sensor"/power[0-9]*_input "$sensor"/power[0-9]*_average
    show "$sensor"/in[0-9]*_label "$sensor"/in[0-9]*_input "$sensor"/curr[0-9]*_label "$sensor"/curr[0-9]*_input
done
# The driver of JetPack 4.
for sensor in "$root"/sys/bus/i2c/drivers/ina3221x/*/iio:device[0-9]*; do
    show "$sensor"/rail_name_[0-9]* "$sensor"/in_power[0-9]*_input
done
for zone in "$root"/sys/class/powercap/intel-rapl:*; do
    show "$zone/name" "$zone/energy_uj" "$zone/max_energy_range_uj"
done

run vcgencmd get_throttled
run vcgencmd measure_temp

for folder in /lib /usr/lib /usr/local/lib /usr/lib/*-linux-* /lib/*-linux-* /usr/lib/*-linux-*/tegra /usr/lib64 \
    /usr/local/cuda/lib64 /usr/local/cuda/targets/*/lib /usr/lib/*-linux-*/nvidia; do
    for name in libnvinfer libcudart libcudnn libcublas libedgetpu libvx_delegate libethosu_delegate libarmnnDelegate \
        librknnrt libhailort libQnnTFLiteDelegate libOpenCL libvulkan libtensorflowlite libonnxruntime; do
        name_files "$root$folder/$name".so "$root$folder/$name".so.[0-9]*
    done
    name_files "$root$folder"/libc.so.6 "$root$folder"/ld-musl-*.so.1
done
name_files "$root"/dev/apex_[0-9]* "$root"/dev/hailo[0-9]* "$root"/dev/galcore "$root"/dev/rknpu "$root"/dev/nvhost-gpu \
    "$root"/dev/nvhost-ctrl-nvdla[0-9]* "$root"/dev/dri/renderD[0-9]* "$root"/dev/ethosu[0-9]* "$root"/dev/accel/accel[0-9]*
if [ -z "$root" ]; then
    for loader in /lib/ld-musl-*.so.1; do
        [ -x "$loader" ] && run "$loader"
    done
fi
echo '=. end'
