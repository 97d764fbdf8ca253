# Libraries for armv7 and glibc, by the compiler that is there.
set(EDGEKIT_TRIPLE arm-linux-gnueabihf)
set(EDGEKIT_ZIG_TOOLCHAIN zig-arm-linux-gnueabihf)
set(EDGEKIT_GNU_TOOLCHAIN arm-linux-gnueabihf)
include(${CMAKE_CURRENT_LIST_DIR}/first.cmake)
