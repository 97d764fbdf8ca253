#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/store_x86_avx2.h"
#include "kernels/requantize_x86_avx2.h"

// Two kernels over the same packed weights, 16 columns by 4 of k, and one over weights of 4 bits:
//
//   4x16, pair sums fit 16 bits:  vpmaddubsw adds pairs of u8 x s8 to int16, which saturates and is
//                                 therefore only for weights that are proved, then vpmaddwd with
//                                 ones
//            b: 8 columns x 4 of k, 8 columns x 4 of k        a: 4 bytes, broadcast
//            acc[4 rows][2]: a column a lane
//   2x16, always exact:           vpmaddwd on u8 and s8 widened to int16
//            b: 4 columns x 4 of k, four times                a: 4 bytes, widened and broadcast
//            acc[2 rows][4]: a column in two neighbouring lanes, added at the end
//   4x16, 4 bits:                 a table gives bytes for the halves of b; pairs of their products
//   are
//                                 so small that eight add up in int16 before they are widened

namespace edgekit {
namespace {

constexpr size_t kNr = 16;
constexpr size_t kKr = 4;
constexpr size_t kStepBytes = kNr * kKr;
constexpr size_t kMaxRows = 4;

/// Four bytes of a row in every lane.
inline __m128i broadcast(const uint8_t* a) {
  int32_t bytes = 0;
  std::memcpy(&bytes, a, sizeof(bytes));
  return _mm_set1_epi32(bytes);
}

inline __m256i load32(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

inline void store32(int32_t* to, __m256i v) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(to), v);
}

/// Points to the rows of tap t.
template <int kRows>
inline void tap_rows(const GemmArgs& args, size_t row, size_t t, const uint8_t** a) {
  for (int i = 0; i < kRows; ++i) {
    const size_t r = row + static_cast<size_t>(i);
    a[i] = args.rows ? args.rows[r * args.taps + t] : args.a + r * args.a_stride;
  }
}

/// acc[i][c] = sum over taps and k for 16 columns, where no pair of products leaves 16 bits.
struct PairSums {
  static constexpr int kRows = 4;

  template <int kTileRows>
  static void multiply(const GemmArgs& args, const int8_t* w, size_t steps, size_t row,
                       int32_t* out) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i acc[kTileRows][2];
    for (int i = 0; i < kTileRows; ++i) acc[i][0] = acc[i][1] = _mm256_setzero_si256();
    for (size_t t = 0; t < args.taps; ++t) {
      const uint8_t* a[kTileRows];
      tap_rows<kTileRows>(args, row, t, a);
      for (size_t step = 0; step < steps; ++step, w += kStepBytes) {
        const __m256i b[2] = {load32(w), load32(w + 32)};
#pragma GCC unroll 4
        for (int i = 0; i < kTileRows; ++i) {
          const __m256i a_i = _mm256_broadcastsi128_si256(broadcast(a[i] + step * kKr));
#pragma GCC unroll 2
          for (int p = 0; p < 2; ++p) {
            const __m256i pairs = _mm256_maddubs_epi16(a_i, b[p]);
            acc[i][p] = _mm256_add_epi32(acc[i][p], _mm256_madd_epi16(pairs, ones));
          }
        }
      }
    }
    for (int i = 0; i < kTileRows; ++i, out += kNr) {
      store32(out, acc[i][0]);
      store32(out + 8, acc[i][1]);
    }
  }
};

/// The same for any weights.
struct Widened {
  static constexpr int kRows = 2;

  template <int kTileRows>
  static void multiply(const GemmArgs& args, const int8_t* w, size_t steps, size_t row,
                       int32_t* out) {
    __m256i acc[kTileRows][4];
    for (int i = 0; i < kTileRows; ++i) {
      for (int p = 0; p < 4; ++p) acc[i][p] = _mm256_setzero_si256();
    }
    for (size_t t = 0; t < args.taps; ++t) {
      const uint8_t* a[kTileRows];
      tap_rows<kTileRows>(args, row, t, a);
      for (size_t step = 0; step < steps; ++step, w += kStepBytes) {
        __m256i b[4];
#pragma GCC unroll 4
        for (int p = 0; p < 4; ++p) {
          const __m128i* bytes = reinterpret_cast<const __m128i*>(w + 16 * p);
          b[p] = _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes));
        }
#pragma GCC unroll 2
        for (int i = 0; i < kTileRows; ++i) {
          const __m256i a_i = _mm256_cvtepu8_epi16(broadcast(a[i] + step * kKr));
#pragma GCC unroll 4
          for (int p = 0; p < 4; ++p) {
            acc[i][p] = _mm256_add_epi32(acc[i][p], _mm256_madd_epi16(a_i, b[p]));
          }
        }
      }
    }
    for (int i = 0; i < kTileRows; ++i, out += kNr) {
      // The sums of neighbours come out by 128 bits: columns 0 1 4 5 2 3 6 7.
      const __m256i low = _mm256_hadd_epi32(acc[i][0], acc[i][1]);
      const __m256i high = _mm256_hadd_epi32(acc[i][2], acc[i][3]);
      store32(out, _mm256_permute4x64_epi64(low, 0xD8));
      store32(out + 8, _mm256_permute4x64_epi64(high, 0xD8));
    }
  }
};

/// The same for weights of 4 bits: 255 * 2 * 8 is the most that a pair adds up to, and eight times
/// that fits 16 bits.
struct Nibbles {
  static constexpr int kRows = 4;
  static constexpr size_t kPairsOfSteps = 4;

  template <int kTileRows>
  static void multiply(const GemmArgs& args, const int8_t* w, size_t steps, size_t row,
                       int32_t* out) {
    const __m256i ones = _mm256_set1_epi16(1);
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i codes = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1));
    __m256i acc[kTileRows][2];
    for (int i = 0; i < kTileRows; ++i) acc[i][0] = acc[i][1] = _mm256_setzero_si256();
    for (size_t t = 0; t < args.taps; ++t) {
      const uint8_t* a[kTileRows];
      tap_rows<kTileRows>(args, row, t, a);
      for (size_t step = 0; step < steps;) {
        const size_t end = steps - step < kPairsOfSteps ? steps : step + kPairsOfSteps;
        __m256i sums[kTileRows][2];
        for (int i = 0; i < kTileRows; ++i) sums[i][0] = sums[i][1] = _mm256_setzero_si256();
        for (; step < end; ++step, w += kStepBytes) {
          const __m256i b[2] = {load32(w), load32(w + 32)};
          const __m256i lower[2] = {_mm256_shuffle_epi8(codes, _mm256_and_si256(b[0], low)),
                                    _mm256_shuffle_epi8(codes, _mm256_and_si256(b[1], low))};
          add_pairs<kTileRows>(a, 2 * step * kKr, lower, sums);
          const __m256i upper[2] = {
              _mm256_shuffle_epi8(codes, _mm256_and_si256(_mm256_srli_epi16(b[0], 4), low)),
              _mm256_shuffle_epi8(codes, _mm256_and_si256(_mm256_srli_epi16(b[1], 4), low))};
          add_pairs<kTileRows>(a, (2 * step + 1) * kKr, upper, sums);
        }
        for (int i = 0; i < kTileRows; ++i) {
          for (int p = 0; p < 2; ++p) {
            acc[i][p] = _mm256_add_epi32(acc[i][p], _mm256_madd_epi16(sums[i][p], ones));
          }
        }
      }
    }
    for (int i = 0; i < kTileRows; ++i, out += kNr) {
      store32(out, acc[i][0]);
      store32(out + 8, acc[i][1]);
    }
  }

 private:
  /// Adds the products of 4 of k, from byte `k` of every row on, in 16 bits.
  template <int kTileRows>
  static void add_pairs(const uint8_t* const (&a)[kTileRows], size_t k, const __m256i (&b)[2],
                        __m256i (&sums)[kTileRows][2]) {
#pragma GCC unroll 4
    for (int i = 0; i < kTileRows; ++i) {
      const __m256i a_i = _mm256_broadcastsi128_si256(broadcast(a[i] + k));
#pragma GCC unroll 2
      for (int p = 0; p < 2; ++p) {
        sums[i][p] = _mm256_add_epi16(sums[i][p], _mm256_maddubs_epi16(a_i, b[p]));
      }
    }
  }
};

/// How sums are stored.
struct Epilogue {
  /// Bytes, requantized two rows at a time.
  bool pairs;
  RequantizePairs constants;
};

/// Adds the bias to `rows` rows of 16 sums and stores them as args.output says.
void store_sums(const GemmArgs& args, const Epilogue& epilogue, size_t row, size_t rows,
                size_t column, const int32_t* sums) {
  const __m256i bias[2] = {load32(args.bias + column), load32(args.bias + column + 8)};
  if (!epilogue.pairs || args.n - column < kNr) {
    for (size_t i = 0; i < rows; ++i, sums += kNr) {
      store_row(args, row + i, column, _mm256_add_epi32(load32(sums), bias[0]),
                _mm256_add_epi32(load32(sums + 8), bias[1]));
    }
    return;
  }
  uint8_t* y = static_cast<uint8_t*>(args.y) + row * args.y_stride + column;
  for (size_t i = 0; i < rows; i += 2, sums += 2 * kNr, y += 2 * args.y_stride) {
    // A row that there is not repeats the one before, and is not stored.
    const bool two = i + 1 < rows;
    const int32_t* second_sums = two ? sums + kNr : sums;
    const __m256i first[2] = {_mm256_add_epi32(load32(sums), bias[0]),
                              _mm256_add_epi32(load32(sums + 8), bias[1])};
    const __m256i second[2] = {_mm256_add_epi32(load32(second_sums), bias[0]),
                               _mm256_add_epi32(load32(second_sums + 8), bias[1])};
    const __m256i bytes =
        requantize_pair(epilogue.constants, args.requantize.scale + column, first, second);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), _mm256_castsi256_si128(bytes));
    if (two) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(y + args.y_stride),
                       _mm256_extracti128_si256(bytes, 1));
    }
  }
}

/// Runs a kernel whose steps take kStep of k.
template <typename Kernel, size_t kStep = kKr>
void gemm(const GemmArgs& args) {
  constexpr size_t kRows = Kernel::kRows;
  alignas(32) int32_t sums[kMaxRows * kNr];
  const size_t steps = (args.k + kStep - 1) / kStep;
  const int8_t* w = args.w;
  const Requantize& requantize = args.requantize;
  const Epilogue epilogue{args.output == Output::kCodes && requantize.residual == nullptr &&
                              products_fit_int32(requantize.scale, args.n),
                          requantize_pairs(requantize)};
  for (size_t column = 0; column < args.n; column += kNr) {
    size_t row = 0;
    for (; row + kRows <= args.m; row += kRows) {
      Kernel::template multiply<Kernel::kRows>(args, w, steps, row, sums);
      store_sums(args, epilogue, row, kRows, column, sums);
    }
    for (; row < args.m; ++row) {
      Kernel::template multiply<1>(args, w, steps, row, sums);
      store_sums(args, epilogue, row, 1, column, sums);
    }
    w += args.taps * steps * kStepBytes;
  }
}

}  // namespace

void gemm_u8_s8c_u8_2x16c4_x86_avx2(const GemmArgs& args) { gemm<Widened>(args); }

void gemm_u8_s8c_u8_4x16c4_x86_avx2(const GemmArgs& args) { gemm<PairSums>(args); }

void gemm_u8_s4c_u8_4x16c4_x86_avx2(const GemmArgs& args) { gemm<Nibbles, 2 * kKr>(args); }

}  // namespace edgekit
