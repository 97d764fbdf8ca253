# 64 bit RISC-V Linux (RV64GC) with zig and static musl.
set(CMAKE_SYSTEM_PROCESSOR riscv64)
set(EDGEKIT_TOOLCHAIN zig-riscv64-linux-musl)
set(EDGEKIT_ZIG_TARGET -target riscv64-linux-musl)
set(EDGEKIT_EMULATORS qemu-riscv64-static qemu-riscv64)
include(${CMAKE_CURRENT_LIST_DIR}/shared/zig.cmake)
