# 32 bit Arm Linux (ARMv7-A) with zig and static musl. VFP alone: NEON takes subnormal floats for 0, which is not what
# arithmetic.md says.
set(CMAKE_SYSTEM_PROCESSOR armv7)
set(EDGEKIT_TOOLCHAIN zig-arm-linux-musleabihf)
set(EDGEKIT_ZIG_TARGET -target arm-linux-musleabihf -mcpu=generic+v7a+vfp3d16-neon)
set(EDGEKIT_EMULATORS qemu-arm-static qemu-arm)
include(${CMAKE_CURRENT_LIST_DIR}/shared/zig.cmake)
