# The distribution's cross compiler. The including file sets CMAKE_SYSTEM_PROCESSOR, EDGEKIT_TRIPLE and EDGEKIT_EMULATORS.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_C_COMPILER ${EDGEKIT_TRIPLE}-gcc)
set(CMAKE_CXX_COMPILER ${EDGEKIT_TRIPLE}-g++)

# Libraries come from the compiler's own sysroot; programs such as flatc, packages and headers from this machine.
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)

find_program(EDGEKIT_EMULATOR NAMES ${EDGEKIT_EMULATORS})
if(EDGEKIT_EMULATOR)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${EDGEKIT_EMULATOR};-L;/usr/${EDGEKIT_TRIPLE})
endif()
