# 32 bit Arm Linux (ARMv7-A) with the distribution's compiler: Debian and Ubuntu call the package g++-arm-linux-gnueabihf.
set(CMAKE_SYSTEM_PROCESSOR armv7)
set(EDGEKIT_TRIPLE arm-linux-gnueabihf)
set(EDGEKIT_EMULATORS qemu-arm-static qemu-arm)
# VFP alone: NEON takes subnormal floats for 0, which is not what arithmetic.md says.
set(CMAKE_C_FLAGS_INIT "-march=armv7-a+fp")
set(CMAKE_CXX_FLAGS_INIT "-march=armv7-a+fp")
include(${CMAKE_CURRENT_LIST_DIR}/shared/gnu.cmake)
