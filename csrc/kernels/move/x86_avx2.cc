#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/move/move.h"

// A transposition of bytes, 16 by 16 at a time: four rounds, each of which interleaves the rows of
// the upper half with those of the lower. Of words of four 8 by 8, whose two halves of four meet in
// one register, so that rounds stay within 128 bits. Whatever else moves is left to plain C++.

namespace edgekit {

void move_any_any_generic(const MoveArgs& args);

namespace {

struct Bytes {
  static constexpr size_t kTile = 16;

  /// y[r * y_stride + i] = x[i * x_step + r] for r, i < 16.
  static void transpose(const uint8_t* x, ptrdiff_t x_step, uint8_t* y, size_t y_stride) {
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

 private:
  /// Writes out[2 * i] and out[2 * i + 1] as the bytes of in[i] and in[i + 8] in turns.
  static void interleave_halves(const __m128i (&in)[kTile], __m128i (&out)[kTile]) {
#pragma GCC unroll 8
    for (size_t i = 0; i < kTile / 2; ++i) {
      out[2 * i] = _mm_unpacklo_epi8(in[i], in[i + kTile / 2]);
      out[2 * i + 1] = _mm_unpackhi_epi8(in[i], in[i + kTile / 2]);
    }
  }
};

struct Words {
  static constexpr size_t kTile = 8;

  /// y[r * y_stride + 4 * i ..] = x[i * x_step + 4 * r ..] for r, i < 8.
  static void transpose(const uint8_t* x, ptrdiff_t x_step, uint8_t* y, size_t y_stride) {
    // Rows i and i + 4 of x, of them four elements from r = 4 * half on.
#pragma GCC unroll 2
    for (size_t half = 0; half < 2; ++half) {
      __m256i a[4];
#pragma GCC unroll 4
      for (size_t i = 0; i < 4; ++i)
        a[i] = load_pair(x + static_cast<ptrdiff_t>(i) * x_step, 4 * x_step);
      const __m256i b0 = _mm256_unpacklo_epi32(a[0], a[1]);
      const __m256i b1 = _mm256_unpackhi_epi32(a[0], a[1]);
      const __m256i b2 = _mm256_unpacklo_epi32(a[2], a[3]);
      const __m256i b3 = _mm256_unpackhi_epi32(a[2], a[3]);
      store(y, _mm256_unpacklo_epi64(b0, b2));
      store(y + y_stride, _mm256_unpackhi_epi64(b0, b2));
      store(y + 2 * y_stride, _mm256_unpacklo_epi64(b1, b3));
      store(y + 3 * y_stride, _mm256_unpackhi_epi64(b1, b3));
      x += 16;
      y += 4 * y_stride;
    }
  }

 private:
  /// Returns 16 bytes at x, and 16 bytes at x + apart above them.
  static __m256i load_pair(const uint8_t* x, ptrdiff_t apart) {
    const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
    const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + apart));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
  }

  static void store(uint8_t* y, __m256i words) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), words);
  }
};

/// Transposes what fills whole tiles, and leaves the rest to plain C++.
template <class Tile>
void transpose(const MoveArgs& args) {
  const size_t size = args.element_size;
  const size_t rows = args.rows / Tile::kTile * Tile::kTile;
  const size_t width = args.width / Tile::kTile * Tile::kTile;
  for (size_t r = 0; r < rows; r += Tile::kTile) {
    for (size_t i = 0; i < width; i += Tile::kTile) {
      Tile::transpose(args.x + r * size + static_cast<ptrdiff_t>(i) * args.x_step, args.x_step,
                      args.y + r * args.y_stride + i * size, args.y_stride);
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

/// Joins three planes of words to pixels, four at a time: rows of three elements side by side in y.
void join_three_planes(const MoveArgs& args) {
  const size_t rows = args.rows / 4 * 4;
  const auto load = [](const uint8_t* x) {
    return _mm_loadu_ps(reinterpret_cast<const float*>(x));
  };
  for (size_t r = 0; r < rows; r += 4) {
    const __m128 a = load(args.x + 4 * r);
    const __m128 b = load(args.x + 4 * r + args.x_step);
    const __m128 c = load(args.x + 4 * r + 2 * args.x_step);
    const __m128 ab_low = _mm_unpacklo_ps(a, b);                          // a0 b0 a1 b1
    const __m128 ab_high = _mm_unpackhi_ps(a, b);                         // a2 b2 a3 b3
    const __m128 ca = _mm_shuffle_ps(c, a, _MM_SHUFFLE(3, 1, 2, 0));      // c0 c2 a1 a3
    const __m128 bc = _mm_shuffle_ps(b, c, _MM_SHUFFLE(1, 1, 1, 1));      // b1 b1 c1 c1
    const __m128 c2a3 = _mm_shuffle_ps(ca, ca, _MM_SHUFFLE(3, 3, 1, 1));  // c2 c2 a3 a3
    const __m128 b3c3 = _mm_shuffle_ps(b, c, _MM_SHUFFLE(3, 3, 3, 3));    // b3 b3 c3 c3
    float* y = reinterpret_cast<float*>(args.y + r * args.y_stride);
    _mm_storeu_ps(y, _mm_shuffle_ps(ab_low, ca, _MM_SHUFFLE(2, 0, 1, 0)));       // a0 b0 c0 a1
    _mm_storeu_ps(y + 4, _mm_shuffle_ps(bc, ab_high, _MM_SHUFFLE(1, 0, 2, 0)));  // b1 c1 a2 b2
    _mm_storeu_ps(y + 8, _mm_shuffle_ps(c2a3, b3c3, _MM_SHUFFLE(2, 0, 2, 0)));   // c2 a3 b3 c3
  }
  MoveArgs rest = args;
  rest.rows = args.rows - rows;
  rest.x += 4 * rows;
  rest.y += rows * args.y_stride;
  move_any_any_generic(rest);
}

}  // namespace

void move_any_any_x86_avx2(const MoveArgs& args) {
  const size_t size = args.element_size;
  const bool transposes =
      args.x_stride == static_cast<ptrdiff_t>(size) && args.x_step != static_cast<ptrdiff_t>(size);
  const size_t least = args.rows < args.width ? args.rows : args.width;
  if (transposes && size == 1 && least >= Bytes::kTile) return transpose<Bytes>(args);
  if (transposes && size == 4 && least >= Words::kTile) return transpose<Words>(args);
  if (transposes && size == 4 && args.width == 3 && args.y_stride == 12) {
    return join_three_planes(args);
  }
  move_any_any_generic(args);
}

}  // namespace edgekit
