# 64 bit Arm Linux with zig, for the glibc of Debian 10 (2.28, as manylinux_2_28) and newer.
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(EDGEKIT_TOOLCHAIN zig-aarch64-linux-gnu)
set(EDGEKIT_ZIG_TARGET -target aarch64-linux-gnu.2.28)
set(EDGEKIT_EMULATORS qemu-aarch64-static qemu-aarch64)
include(${CMAKE_CURRENT_LIST_DIR}/shared/zig.cmake)
