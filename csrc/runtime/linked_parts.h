#pragma once

// Writes into the section .comment of the program or library whose main file includes it which
// libraries are linked in, as the compiler that chose them knows:
// python/edgekit/building/linked_parts.py reads it there. The section is not loaded, and stripping
// keeps it.

#include <cstddef>

#include "flatbuffers/base.h"

#define EDGEKIT_TEXT_OF(x) #x
#define EDGEKIT_TEXT(x) EDGEKIT_TEXT_OF(x)

#ifdef __clang__
#define EDGEKIT_COMPILER                                                                     \
  "clang " EDGEKIT_TEXT(__clang_major__) "." EDGEKIT_TEXT(__clang_minor__) "." EDGEKIT_TEXT( \
      __clang_patchlevel__)
#else
#define EDGEKIT_GCC \
  EDGEKIT_TEXT(__GNUC__) "." EDGEKIT_TEXT(__GNUC_MINOR__) "." EDGEKIT_TEXT(__GNUC_PATCHLEVEL__)
#define EDGEKIT_COMPILER "gcc " EDGEKIT_GCC
#endif

#if defined(_LIBCPP_VERSION)
// Two digits each of major, minor and patch.
#define EDGEKIT_LIBRARY "libc++ " EDGEKIT_TEXT(_LIBCPP_VERSION)
#elif defined(__clang__)
#define EDGEKIT_LIBRARY "libstdc++ " EDGEKIT_TEXT(_GLIBCXX_RELEASE)
#else
#define EDGEKIT_LIBRARY "libstdc++ " EDGEKIT_GCC
#endif

#ifdef __GLIBC__
#define EDGEKIT_LIBC "glibc " EDGEKIT_TEXT(__GLIBC__) "." EDGEKIT_TEXT(__GLIBC_MINOR__)
#else
// musl tells nobody its version.
#define EDGEKIT_LIBC "musl"
#endif

#define EDGEKIT_FLATBUFFERS                                                \
  "flatbuffers " EDGEKIT_TEXT(FLATBUFFERS_VERSION_MAJOR) "." EDGEKIT_TEXT( \
      FLATBUFFERS_VERSION_MINOR) "." EDGEKIT_TEXT(FLATBUFFERS_VERSION_REVISION)

asm(".ident \"edgekit links " EDGEKIT_COMPILER "; " EDGEKIT_LIBRARY "; " EDGEKIT_LIBC
    "; " EDGEKIT_FLATBUFFERS "\"");
