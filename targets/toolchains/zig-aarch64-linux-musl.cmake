# 64 bit Arm Linux with zig and static musl.
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(EDGEKIT_TOOLCHAIN zig-aarch64-linux-musl)
set(EDGEKIT_ZIG_TARGET -target aarch64-linux-musl)
set(EDGEKIT_EMULATORS qemu-aarch64-static qemu-aarch64)
include(${CMAKE_CURRENT_LIST_DIR}/shared/zig.cmake)
