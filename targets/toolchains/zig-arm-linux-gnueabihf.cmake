# 32 bit Arm Linux (ARMv7-A) with zig, for the glibc of Debian 10 (2.28) and newer.
set(CMAKE_SYSTEM_PROCESSOR armv7)
set(EDGEKIT_TOOLCHAIN zig-arm-linux-gnueabihf)
set(EDGEKIT_ZIG_TARGET -target arm-linux-gnueabihf.2.28 -mcpu=generic+v7a+vfp3d16-neon)
set(EDGEKIT_EMULATORS qemu-arm-static qemu-arm)
include(${CMAKE_CURRENT_LIST_DIR}/shared/zig.cmake)
