#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/requantize_arm_neon.h"

// The multiplies of the plain NEON kernels, in the order in which they are written. Volatile
// assembly keeps it: a CPU that executes in order needs independent neighbours, and g++, left to
// itself, starts everything at once and moves accumulators to the stack.
//
// A product of a code in [-128, 127] and a weight in [-127, 127] fits int16, and so does the sum of
// two: 2 * 128 * 127 = 32512.

namespace edgekit {
// Each file that includes this is compiled for its own instruction set: nothing here may be shared
// by the linker.
namespace {

/// Loads 16 lanes, here and not later, and moves `from` on by `kStep` bytes.
template <size_t kStep = 16>
inline int8x16_t load_next(const int8_t*& from) {
  int8x16_t lanes;
  asm volatile("ldr %q0, [%1], %2"
               : "=w"(lanes), "+r"(from)
               : "i"(kStep), "m"(*reinterpret_cast<const int8_t (*)[16]>(from)));
  return lanes;
}

/// Loads 16 lanes twice, here and not later, and moves `from` on by `kStep` bytes.
template <size_t kStep = 32>
inline void load_pair_next(const int8_t*& from, int8x16_t* lanes) {
  asm volatile("ldp %q0, %q1, [%2], %3"
               : "=w"(lanes[0]), "=w"(lanes[1]), "+r"(from)
               : "i"(kStep), "m"(*reinterpret_cast<const int8_t (*)[32]>(from)));
}

/// Loads two vectors of sums, here and not later.
inline void load_pair_at(const int32_t* from, int32x4_t* sums) {
  asm volatile("ldp %q0, %q1, [%2]"
               : "=w"(sums[0]), "=w"(sums[1])
               : "r"(from), "m"(*reinterpret_cast<const int32_t (*)[8]>(from)));
}

// Four registers in a row, which operands alone can't ask for.
#define EDGEKIT_FOUR_LANES(type, register0, register1, register2, register3) \
  register type lanes0 asm(register0);                                       \
  register type lanes1 asm(register1);                                       \
  register type lanes2 asm(register2);                                       \
  register type lanes3 asm(register3)
#define EDGEKIT_LOAD_SUMS(register0, register1, register2, register3)             \
  EDGEKIT_FOUR_LANES(int32x4_t, register0, register1, register2, register3);      \
  asm volatile("ld1 {%0.4s, %1.4s, %2.4s, %3.4s}, [%4]"                           \
               : "=w"(lanes0), "=w"(lanes1), "=w"(lanes2), "=w"(lanes3)           \
               : "r"(from), "m"(*reinterpret_cast<const int32_t (*)[16]>(from))); \
  sums[0] = lanes0;                                                               \
  sums[1] = lanes1;                                                               \
  sums[2] = lanes2;                                                               \
  sums[3] = lanes3

/// As a place of load_four(): registers that no row of a tile lies in.
constexpr size_t kNoRow = 6;

/// Loads four vectors of sums, here and not later, as the `place`th of up to six rows of a tile.
EDGEKIT_INLINE void load_four(const int32_t* from, int32x4_t* sums, size_t place) {
  if (place == 0) {
    EDGEKIT_LOAD_SUMS("v16", "v17", "v18", "v19");
  } else if (place == 1) {
    EDGEKIT_LOAD_SUMS("v20", "v21", "v22", "v23");
  } else if (place == 2) {
    EDGEKIT_LOAD_SUMS("v0", "v1", "v2", "v3");
  } else if (place == 3) {
    EDGEKIT_LOAD_SUMS("v4", "v5", "v6", "v7");
  } else if (place == 4) {
    EDGEKIT_LOAD_SUMS("v24", "v25", "v26", "v27");
  } else if (place == 5) {
    EDGEKIT_LOAD_SUMS("v8", "v9", "v10", "v11");
  } else {
    EDGEKIT_LOAD_SUMS("v28", "v29", "v30", "v31");
  }
}

/// Loads four vectors, here and not later, where no sums and no weights of a tile lie.
EDGEKIT_INLINE void load_slopes(const int32_t* from, int32x4_t* sums) {
  EDGEKIT_LOAD_SUMS("v12", "v13", "v14", "v15");
}

/// Loads 64 lanes, here and not later, and moves `from` behind them.
EDGEKIT_INLINE void load_four_next(const int8_t*& from, int8x16_t* to) {
  EDGEKIT_FOUR_LANES(int8x16_t, "v28", "v29", "v30", "v31");
  asm volatile("ld1 {%0.16b, %1.16b, %2.16b, %3.16b}, [%4], #64"
               : "=w"(lanes0), "=w"(lanes1), "=w"(lanes2), "=w"(lanes3), "+r"(from)
               : "m"(*reinterpret_cast<const int8_t (*)[64]>(from)));
  to[0] = lanes0;
  to[1] = lanes1;
  to[2] = lanes2;
  to[3] = lanes3;
}

#undef EDGEKIT_LOAD_SUMS
#undef EDGEKIT_FOUR_LANES

/// Returns the weights in the lower halves of bytes.
inline int8x16_t lower_halves(int8x16_t bytes) { return vshrq_n_s8(vshlq_n_s8(bytes, 4), 4); }

/// Returns the weights in the upper halves of bytes.
inline int8x16_t upper_halves(int8x16_t bytes) { return vshrq_n_s8(bytes, 4); }

/// Loads 16 lanes, and moves `from` on by `step` bytes.
inline int8x16_t load_strided(const uint8_t*& from, size_t step) {
  int8x16_t lanes;
  asm("ld1 {%0.16b}, [%1], %2"
      : "=w"(lanes), "+r"(from)
      : "r"(step), "m"(*reinterpret_cast<const uint8_t (*)[16]>(from)));
  return lanes;
}

/// Returns the next `kSize` bytes, 2 or 4, again and again, and moves `from` behind them.
template <size_t kSize>
inline int8x16_t spread_next(const int8_t*& from) {
  int8x16_t lanes;
  if constexpr (kSize == 2) {
    asm volatile("ld1r {%0.8h}, [%1], #2"
                 : "=w"(lanes), "+r"(from)
                 : "m"(*reinterpret_cast<const int8_t (*)[2]>(from)));
  } else {
    asm volatile("ld1r {%0.4s}, [%1], #4"
                 : "=w"(lanes), "+r"(from)
                 : "m"(*reinterpret_cast<const int8_t (*)[4]>(from)));
  }
  return lanes;
}

/// Stores 16 lanes, and moves `to` on by `step` bytes.
inline void store_next(uint8_t*& to, int8x16_t lanes, size_t step) {
  asm volatile("st1 {%2.16b}, [%0], %3"
               : "+r"(to), "=m"(*reinterpret_cast<uint8_t (*)[16]>(to))
               : "w"(lanes), "r"(step));
}

/// Stores 32 lanes, and moves `to` behind them.
inline void store_pair_next(int8_t*& to, int8x16_t first, int8x16_t second) {
  asm volatile("stp %q2, %q3, [%0], #32"
               : "+r"(to), "=m"(*reinterpret_cast<int8_t (*)[32]>(to))
               : "w"(first), "w"(second));
}

/// Stores four lanes of four bytes each, `step` bytes apart, and moves `to` behind them.
inline void store_lanes_next(uint8_t*& to, int8x16_t lanes, size_t step) {
  asm volatile(
      "st1 {%1.s}[0], [%0], %2\n\t"
      "st1 {%1.s}[1], [%0], %2\n\t"
      "st1 {%1.s}[2], [%0], %2\n\t"
      "st1 {%1.s}[3], [%0], %2"
      : "+r"(to)
      : "w"(lanes), "r"(step)
      : "memory");
}

/// Loads four lanes of four bytes each, `step` bytes apart, and moves `from` behind them.
inline int8x16_t load_lanes_next(const uint8_t*& from, size_t step) {
  int8x16_t lanes = vdupq_n_s8(0);
  asm volatile(
      "ld1 {%1.s}[0], [%0], %2\n\t"
      "ld1 {%1.s}[1], [%0], %2\n\t"
      "ld1 {%1.s}[2], [%0], %2\n\t"
      "ld1 {%1.s}[3], [%0], %2"
      : "+r"(from), "+w"(lanes)
      : "r"(step)
      : "memory");
  return lanes;
}

/// Loads the 16 lanes that lie `kOffset` bytes behind `from`, here and not later.
template <size_t kOffset>
inline int8x16_t load_at(const int8_t* from) {
  int8x16_t lanes;
  asm volatile("ldr %q0, [%1, %2]"
               : "=w"(lanes)
               : "r"(from), "i"(kOffset),
                 "m"(*reinterpret_cast<const int8_t (*)[kOffset + 16]>(from)));
  return lanes;
}

/// Returns the products of the lower 8 lanes.
inline int16x8_t multiply_low(int8x16_t x, int8x16_t w) {
  int16x8_t products;
  asm volatile("smull %0.8h, %1.8b, %2.8b" : "=w"(products) : "w"(x), "w"(w));
  return products;
}

/// Returns the products of the upper 8 lanes.
inline int16x8_t multiply_high(int8x16_t x, int8x16_t w) {
  int16x8_t products;
  asm volatile("smull2 %0.8h, %1.16b, %2.16b" : "=w"(products) : "w"(x), "w"(w));
  return products;
}

/// Adds the products of the lower 8 lanes.
inline void add_multiply_low(int16x8_t& products, int8x16_t x, int8x16_t w) {
  asm volatile("smlal %0.8h, %1.8b, %2.8b" : "+w"(products) : "w"(x), "w"(w));
}

/// Adds the products of the upper 8 lanes.
inline void add_multiply_high(int16x8_t& products, int8x16_t x, int8x16_t w) {
  asm volatile("smlal2 %0.8h, %1.16b, %2.16b" : "+w"(products) : "w"(x), "w"(w));
}

/// Adds the sum of each two neighbours to a lane.
inline void add_pairs(int32x4_t& acc, int16x8_t products) {
  asm volatile("sadalp %0.4s, %1.8h" : "+w"(acc) : "w"(products));
}

/// Adds the lower 4 lanes.
inline void add_low(int32x4_t& acc, int16x8_t products) {
  asm volatile("saddw %0.4s, %0.4s, %1.4h" : "+w"(acc) : "w"(products));
}

/// Adds the upper 4 lanes.
inline void add_high(int32x4_t& acc, int16x8_t products) {
  asm volatile("saddw2 %0.4s, %0.4s, %1.8h" : "+w"(acc) : "w"(products));
}

}  // namespace
}  // namespace edgekit
