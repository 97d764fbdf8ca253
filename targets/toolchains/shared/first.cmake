# Takes zig where it is there, else the distribution's compiler. The including file sets EDGEKIT_TRIPLE and the names of
# both toolchain files: EDGEKIT_ZIG_TOOLCHAIN and EDGEKIT_GNU_TOOLCHAIN.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES EDGEKIT_ZIG)
find_program(EDGEKIT_ZIG zig)
find_program(EDGEKIT_GNU_COMPILER ${EDGEKIT_TRIPLE}-g++)
if(EDGEKIT_ZIG)
  include(${CMAKE_CURRENT_LIST_DIR}/../${EDGEKIT_ZIG_TOOLCHAIN}.cmake)
elseif(EDGEKIT_GNU_COMPILER)
  include(${CMAKE_CURRENT_LIST_DIR}/../${EDGEKIT_GNU_TOOLCHAIN}.cmake)
else()
  message(
    FATAL_ERROR
    "no compiler for ${EDGEKIT_TRIPLE} was found: install the distribution's (Debian: apt install g++-${EDGEKIT_TRIPLE}), or "
    "zig, which needs no root: put the program on PATH or pass -DEDGEKIT_ZIG=<the zig program> (https://ziglang.org/download)."
  )
endif()
