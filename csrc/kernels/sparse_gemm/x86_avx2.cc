#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/sparse_gemm/panels_x86_avx2.h"

// Two kernels over blocks of 16 columns by 4 of k, as their dense likes (gemm/x86_avx2.cc):
//
//   4x16, pair sums fit 16 bits:  vpmaddubsw adds pairs of u8 x s8 to int16, which saturates and is
//                                 therefore only for weights that are proved, then vpmaddwd with
//                                 ones
//            b: 8 columns x 4 of k, 8 columns x 4 of k        a: 4 bytes, broadcast
//   2x16, always exact:           vpmaddwd on u8 and s8 widened to int16
//            b: 8 columns x 2 of k, four times                a: 4 bytes, widened, each two of them
//                                                             broadcast

namespace edgekit {
namespace {

/// No pair of products leaves 16 bits.
struct PairSums {
  static constexpr int kRows = 4;

  template <int kTileRows>
  struct Sums {
    __m256i acc[kTileRows][2];

    __attribute__((always_inline)) Sums() {
#pragma GCC unroll 4
      for (int i = 0; i < kTileRows; ++i) acc[i][0] = acc[i][1] = _mm256_setzero_si256();
    }
  };

  template <int kTileRows>
  __attribute__((always_inline)) static void add(const uint8_t* const (&rows)[kTileRows], size_t k,
                                                 const int8_t* w, Sums<kTileRows>& sums) {
    const __m256i ones = _mm256_set1_epi16(1);
    const __m256i b[2] = {load32(w), load32(w + 32)};
#pragma GCC unroll 4
    for (int i = 0; i < kTileRows; ++i) {
      const __m256i a_i = broadcast(rows[i] + k);
#pragma GCC unroll 2
      for (int p = 0; p < 2; ++p) {
        const __m256i pairs = _mm256_maddubs_epi16(a_i, b[p]);
        sums.acc[i][p] = _mm256_add_epi32(sums.acc[i][p], _mm256_madd_epi16(pairs, ones));
      }
    }
  }

  template <int kTileRows>
  __attribute__((always_inline)) static void finish(const Sums<kTileRows>& sums,
                                                    __m256i (&acc)[kTileRows][2]) {
#pragma GCC unroll 4
    for (int i = 0; i < kTileRows; ++i) {
      acc[i][0] = sums.acc[i][0];
      acc[i][1] = sums.acc[i][1];
    }
  }
};

/// Any weights.
struct Widened {
  static constexpr int kRows = 2;

  template <int kTileRows>
  using Sums = PairSums::Sums<kTileRows>;

  template <int kTileRows>
  __attribute__((always_inline)) static void add(const uint8_t* const (&rows)[kTileRows], size_t k,
                                                 const int8_t* w, Sums<kTileRows>& sums) {
    // Bytes 0 and 1, and 2 and 3, widened.
    const __m256i first = _mm256_set1_epi32(static_cast<int32_t>(0x80018000u));
    const __m256i second = _mm256_set1_epi32(static_cast<int32_t>(0x80038002u));
    __m256i b[4];
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
      b[p] = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + 16 * p)));
    }
#pragma GCC unroll 2
    for (int i = 0; i < kTileRows; ++i) {
      const __m256i bytes = broadcast(rows[i] + k);
      const __m256i low = _mm256_shuffle_epi8(bytes, first);
      const __m256i high = _mm256_shuffle_epi8(bytes, second);
#pragma GCC unroll 2
      for (int p = 0; p < 2; ++p) {
        const __m256i both =
            _mm256_add_epi32(_mm256_madd_epi16(low, b[p]), _mm256_madd_epi16(high, b[p + 2]));
        sums.acc[i][p] = _mm256_add_epi32(sums.acc[i][p], both);
      }
    }
  }

  template <int kTileRows>
  __attribute__((always_inline)) static void finish(const Sums<kTileRows>& sums,
                                                    __m256i (&acc)[kTileRows][2]) {
    PairSums::finish<kTileRows>(sums, acc);
  }
};

}  // namespace

void sparse_gemm_u8_s8c_u8_2x16c4u2_x86_avx2(const GemmArgs& args) { run_sparse<Widened>(args); }

void sparse_gemm_u8_s8c_u8_4x16c4_x86_avx2(const GemmArgs& args) { run_sparse<PairSums>(args); }

}  // namespace edgekit
