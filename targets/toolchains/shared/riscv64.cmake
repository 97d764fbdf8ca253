# Static programs for riscv64, by the compiler that is there.
set(EDGEKIT_TRIPLE riscv64-linux-gnu)
set(EDGEKIT_ZIG_TOOLCHAIN zig-riscv64-linux-musl)
set(EDGEKIT_GNU_TOOLCHAIN riscv64-linux-gnu)
include(${CMAKE_CURRENT_LIST_DIR}/first.cmake)
