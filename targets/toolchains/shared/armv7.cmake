# Static programs for armv7, by the compiler that is there.
set(EDGEKIT_TRIPLE arm-linux-gnueabihf)
set(EDGEKIT_ZIG_TOOLCHAIN zig-arm-linux-musleabihf)
set(EDGEKIT_GNU_TOOLCHAIN arm-linux-gnueabihf)
include(${CMAKE_CURRENT_LIST_DIR}/first.cmake)
