# 64 bit Arm Linux with the distribution's compiler: Debian and Ubuntu call the package g++-aarch64-linux-gnu.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

# Libraries come from the compiler's own sysroot; programs such as flatc, packages and headers from this machine.
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)

find_program(EDGEKIT_EMULATOR NAMES qemu-aarch64-static qemu-aarch64)
if(EDGEKIT_EMULATOR)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${EDGEKIT_EMULATOR};-L;/usr/aarch64-linux-gnu)
endif()
