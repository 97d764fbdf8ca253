#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/move/move.h"
#include "kernels/requantize_arm_neon.h"

// A transposition of bytes, 16 by 16 at a time, and of words of four, 4 by 4: in each of four or
// two rounds, the rows of the upper half are interleaved with those of the lower. Whatever else
// moves is left to plain C++.

namespace edgekit {

void move_any_any_generic(const MoveArgs& args);

namespace {

inline int8x16_t zip_low(int8x16_t a, int8x16_t b) { return vzip1q_s8(a, b); }
inline int8x16_t zip_high(int8x16_t a, int8x16_t b) { return vzip2q_s8(a, b); }
inline uint32x4_t zip_low(uint32x4_t a, uint32x4_t b) { return vzip1q_u32(a, b); }
inline uint32x4_t zip_high(uint32x4_t a, uint32x4_t b) { return vzip2q_u32(a, b); }

/// Writes out[2 * i] and out[2 * i + 1] as the elements of in[i] and in[i + kTile / 2] in turns.
template <class Vector, size_t kTile>
EDGEKIT_INLINE void interleave_halves(const Vector (&in)[kTile], Vector (&out)[kTile]) {
  EDGEKIT_UNROLL
  for (size_t i = 0; i < kTile / 2; ++i) {
    out[2 * i] = zip_low(in[i], in[i + kTile / 2]);
    out[2 * i + 1] = zip_high(in[i], in[i + kTile / 2]);
  }
}

/// y[r * y_stride + i * size] = x[i * x_step + r * size] for r, i < kTile, elements of 16 / kTile
/// bytes.
template <class Vector, size_t kTile>
EDGEKIT_INLINE void transpose_tile(const uint8_t* x, ptrdiff_t x_step, uint8_t* y,
                                   size_t y_stride) {
  Vector a[kTile];
  Vector b[kTile];
  EDGEKIT_UNROLL
  for (size_t i = 0; i < kTile; ++i, x += x_step) __builtin_memcpy(&a[i], x, sizeof a[i]);
  interleave_halves(a, b);
  interleave_halves(b, a);
  if constexpr (kTile == 16) {
    interleave_halves(a, b);
    interleave_halves(b, a);
  }
  EDGEKIT_UNROLL
  for (size_t r = 0; r < kTile; ++r, y += y_stride) __builtin_memcpy(y, &a[r], sizeof a[r]);
}

/// Transposes kTile by kTile elements at a time, and leaves the rest to plain C++.
template <class Vector, size_t kTile>
void transpose(const MoveArgs& args) {
  const size_t rows = args.rows / kTile * kTile;
  const size_t width = args.width / kTile * kTile;
  const size_t size = args.element_size;
  for (size_t r = 0; r < rows; r += kTile) {
    for (size_t i = 0; i < width; i += kTile) {
      transpose_tile<Vector, kTile>(args.x + r * size + static_cast<ptrdiff_t>(i) * args.x_step,
                                    args.x_step, args.y + r * args.y_stride + i * size,
                                    args.y_stride);
    }
  }
  // What is left to the right of the tiles, and below them.
  MoveArgs rest = args;
  rest.rows = rows;
  rest.width = args.width - width;
  rest.x += static_cast<ptrdiff_t>(width) * args.x_step;
  rest.y += width * size;
  move_any_any_generic(rest);
  rest = args;
  rest.rows = args.rows - rows;
  rest.x += rows * size;
  rest.y += rows * args.y_stride;
  move_any_any_generic(rest);
}

}  // namespace

void move_any_any_arm_neon(const MoveArgs& args) {
  const ptrdiff_t size = static_cast<ptrdiff_t>(args.element_size);
  if (args.x_stride != size || args.x_step == size) return move_any_any_generic(args);
  if (size == 1 && args.rows >= 16 && args.width >= 16) return transpose<int8x16_t, 16>(args);
  if (size == 4 && args.rows >= 4 && args.width >= 4) return transpose<uint32x4_t, 4>(args);
  move_any_any_generic(args);
}

}  // namespace edgekit
