#pragma once

#include <cstddef>
#include <cstdint>

// Two weights of 4 bits, each in [-8, 7], in one byte. The functions are static, so that an object
// built for a special instruction set never lends its copy to the rest of the program.

namespace edgekit {

/// Returns the byte that holds `low` in its lower half and `high` in its upper one.
static inline int8_t join_nibbles(int8_t low, int8_t high) {
  return static_cast<int8_t>((static_cast<uint32_t>(high) << 4) |
                             (static_cast<uint32_t>(low) & 15u));
}

/// Returns the weight in the lower half of a byte.
static inline int8_t low_nibble(int8_t byte) {
  return static_cast<int8_t>(((static_cast<uint8_t>(byte) & 15) ^ 8) - 8);
}

/// Returns the weight in the upper half of a byte.
static inline int8_t high_nibble(int8_t byte) { return static_cast<int8_t>(byte >> 4); }

/// Writes `count` weights: each two that share a byte, the one in its lower half first.
static inline void split_nibbles(const int8_t* bytes, size_t count, int8_t* weights) {
  for (size_t i = 0; i < count; ++i) {
    weights[i] = i % 2 == 0 ? low_nibble(bytes[i / 2]) : high_nibble(bytes[i / 2]);
  }
}

}  // namespace edgekit
