#pragma once

#include <cstdint>

#include "isa/isa.h"

// Says that a loop's iterations do not depend on each other, although its pointers may be equal: an
// output may be the very memory of an input. A spare kernel is small instead (csrc/CMakeLists.txt).
#if defined(EDGEKIT_SPARE)
#define EDGEKIT_INDEPENDENT
#elif defined(__clang__)
#define EDGEKIT_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define EDGEKIT_INDEPENDENT _Pragma("GCC ivdep")
#else
#define EDGEKIT_INDEPENDENT
#endif

// Says that a loop runs seldom and is to be small: clang would make vectors of it.
#if defined(__clang__)
#define EDGEKIT_SMALL_LOOP _Pragma("clang loop vectorize(disable) unroll(disable)")
#else
#define EDGEKIT_SMALL_LOOP
#endif

namespace edgekit {

/// Returns the stored value that a byte holds: [-128, 127] or [0, 255].
template <Storage storage>
static inline int32_t stored_value(uint8_t byte) {
  return storage == Storage::kS8 ? static_cast<int32_t>(static_cast<int8_t>(byte))
                                 : static_cast<int32_t>(byte);
}

/// Returns the stored value that a byte holds.
static inline int32_t stored_value(Storage storage, uint8_t byte) {
  return storage == Storage::kS8 ? stored_value<Storage::kS8>(byte)
                                 : stored_value<Storage::kU8>(byte);
}

}  // namespace edgekit
