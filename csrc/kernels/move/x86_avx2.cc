#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/move/move.h"

// A transposition of bytes, 16 by 16 at a time: four rounds, each of which interleaves the rows of
// the upper half with those of the lower. Whatever else moves is left to plain C++.

namespace edgekit {

void move_any_any_generic(const MoveArgs& args);

namespace {

constexpr size_t kTile = 16;

/// Writes out[2 * i] and out[2 * i + 1] as the bytes of in[i] and in[i + 8] in turns.
inline void interleave_halves(const __m128i (&in)[kTile], __m128i (&out)[kTile]) {
#pragma GCC unroll 8
  for (size_t i = 0; i < kTile / 2; ++i) {
    out[2 * i] = _mm_unpacklo_epi8(in[i], in[i + kTile / 2]);
    out[2 * i + 1] = _mm_unpackhi_epi8(in[i], in[i + kTile / 2]);
  }
}

/// y[r * y_stride + i] = x[i * x_step + r] for r, i < 16.
void transpose_tile(const uint8_t* x, ptrdiff_t x_step, uint8_t* y, size_t y_stride) {
  __m128i a[kTile];
  __m128i b[kTile];
#pragma GCC unroll 16
  for (size_t i = 0; i < kTile; ++i) {
    a[i] =
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + static_cast<ptrdiff_t>(i) * x_step));
  }
  interleave_halves(a, b);
  interleave_halves(b, a);
  interleave_halves(a, b);
  interleave_halves(b, a);
#pragma GCC unroll 16
  for (size_t r = 0; r < kTile; ++r) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + r * y_stride), a[r]);
  }
}

}  // namespace

void move_any_any_x86_avx2(const MoveArgs& args) {
  const bool transposes = args.element_size == 1 && args.x_stride == 1 && args.x_step != 1;
  if (!transposes || args.rows < kTile || args.width < kTile) return move_any_any_generic(args);
  const size_t rows = args.rows / kTile * kTile;
  const size_t width = args.width / kTile * kTile;
  for (size_t r = 0; r < rows; r += kTile) {
    for (size_t i = 0; i < width; i += kTile) {
      transpose_tile(args.x + r + static_cast<ptrdiff_t>(i) * args.x_step, args.x_step,
                     args.y + r * args.y_stride + i, args.y_stride);
    }
  }
  // What is left to the right of the tiles, and below them.
  MoveArgs rest = args;
  rest.rows = rows;
  rest.width = args.width - width;
  rest.x += static_cast<ptrdiff_t>(width) * args.x_step;
  rest.y += width;
  move_any_any_generic(rest);
  rest = args;
  rest.rows = args.rows - rows;
  rest.x += rows;
  rest.y += rows * args.y_stride;
  move_any_any_generic(rest);
}

}  // namespace edgekit
