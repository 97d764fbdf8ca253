# zig's clang with its own C and C++ libraries: `pip install ziglang` is all it needs, no root.
#
# The including file sets CMAKE_SYSTEM_PROCESSOR, EDGEKIT_TOOLCHAIN (its own name), EDGEKIT_ZIG_TARGET (words for zig) and
# EDGEKIT_EMULATORS. EDGEKIT_ZIG names the zig program; found on PATH or in the ziglang package of EDGEKIT_PYTHON otherwise.
# CMake wants one word for each tool, so wrapper scripts are written into EDGEKIT_ZIG_DIR. zig compiles its C and C++
# libraries at the first link, which takes minutes: they are kept under EDGEKIT_ZIG_DIR unless ZIG_GLOBAL_CACHE_DIR names a
# place.
set(CMAKE_SYSTEM_NAME Linux)

# CMake's own checks compile and link nothing, here and in the wrapper scripts: linked without the build's flags, they would
# have zig compile its libraries once more, for debugging.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)

list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES EDGEKIT_ZIG EDGEKIT_ZIG_DIR EDGEKIT_PYTHON)
set(EDGEKIT_PYTHON python3 CACHE STRING "A Python that may have the ziglang package")
find_program(EDGEKIT_ZIG zig)
if(NOT EDGEKIT_ZIG)
  execute_process(
    COMMAND
      ${EDGEKIT_PYTHON} -c
      "import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), 'zig'), end='')"
    OUTPUT_VARIABLE zig
    RESULT_VARIABLE failed
    ERROR_QUIET
  )
  if(failed)
    message(
      FATAL_ERROR
      "zig was not found: put the program on PATH or pass -DEDGEKIT_ZIG=<the zig program> (https://ziglang.org/download, or "
      "`pip install ziglang`)."
    )
  endif()
  set(EDGEKIT_ZIG ${zig} CACHE FILEPATH "The zig program" FORCE)
endif()

if(NOT EDGEKIT_ZIG_DIR)
  if(DEFINED ENV{EDGEKIT_CACHE})
    set(cache $ENV{EDGEKIT_CACHE})
  elseif(DEFINED ENV{XDG_CACHE_HOME})
    set(cache $ENV{XDG_CACHE_HOME}/edgekit)
  else()
    set(cache $ENV{HOME}/.cache/edgekit)
  endif()
  set(EDGEKIT_ZIG_DIR ${cache}/zig CACHE PATH "Where wrapper scripts and zig's libraries are kept")
endif()

# edgekit_zig_wrapper(name arguments...): writes an executable script that calls zig with the arguments.
function(edgekit_zig_wrapper name)
  list(JOIN ARGN " " arguments)
  set(script ${EDGEKIT_ZIG_DIR}/${EDGEKIT_TOOLCHAIN}-${name})
  file(
    CONFIGURE
    OUTPUT ${script}
    CONTENT
      "#!/bin/sh
case \"$*\" in *CMakeC*CompilerId.c*) set -- -c \"$@\" ;; esac
export ZIG_GLOBAL_CACHE_DIR=\"\${ZIG_GLOBAL_CACHE_DIR:-@EDGEKIT_ZIG_DIR@/libraries}\"
exec '@EDGEKIT_ZIG@' @arguments@ \"$@\"
"
    @ONLY
  )
  file(
    CHMOD ${script}
    PERMISSIONS
      OWNER_READ
      OWNER_WRITE
      OWNER_EXECUTE
      GROUP_READ
      GROUP_EXECUTE
      WORLD_READ
      WORLD_EXECUTE
  )
endfunction()
edgekit_zig_wrapper(cc cc ${EDGEKIT_ZIG_TARGET})
edgekit_zig_wrapper(c++ c++ ${EDGEKIT_ZIG_TARGET})
edgekit_zig_wrapper(ar ar)
edgekit_zig_wrapper(ranlib ranlib)
set(CMAKE_C_COMPILER ${EDGEKIT_ZIG_DIR}/${EDGEKIT_TOOLCHAIN}-cc)
set(CMAKE_CXX_COMPILER ${EDGEKIT_ZIG_DIR}/${EDGEKIT_TOOLCHAIN}-c++)
set(CMAKE_AR ${EDGEKIT_ZIG_DIR}/${EDGEKIT_TOOLCHAIN}-ar CACHE FILEPATH "" FORCE)
set(CMAKE_RANLIB ${EDGEKIT_ZIG_DIR}/${EDGEKIT_TOOLCHAIN}-ranlib CACHE FILEPATH "" FORCE)

find_program(EDGEKIT_EMULATOR NAMES ${EDGEKIT_EMULATORS})
if(EDGEKIT_EMULATOR)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${EDGEKIT_EMULATOR})
endif()
