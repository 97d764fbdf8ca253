# Libraries for aarch64 and glibc, by the compiler that is there.
set(EDGEKIT_TRIPLE aarch64-linux-gnu)
set(EDGEKIT_ZIG_TOOLCHAIN zig-aarch64-linux-gnu)
set(EDGEKIT_GNU_TOOLCHAIN aarch64-linux-gnu)
include(${CMAKE_CURRENT_LIST_DIR}/first.cmake)
