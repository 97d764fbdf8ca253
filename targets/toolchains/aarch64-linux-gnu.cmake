# 64 bit Arm Linux with the distribution's compiler: Debian and Ubuntu call the package g++-aarch64-linux-gnu.
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(EDGEKIT_TRIPLE aarch64-linux-gnu)
set(EDGEKIT_EMULATORS qemu-aarch64-static qemu-aarch64)
include(${CMAKE_CURRENT_LIST_DIR}/shared/gnu.cmake)
