#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/softmax/loops.h"

// Softmax with AVX512-VBMI, which picks 64 bytes out of 256 with three instructions. The table of
// exponentials is cut into four planes, one for each byte of an entry: sums of bytes are one
// instruction, and planes interleave to entries. The instruction set does not promise VBMI, so the
// CPU is asked; without it the kernel of x86_avx2 does the work.

#define EDGEKIT_VBMI __attribute__((target("avx512vbmi")))

namespace edgekit {

void softmax_u8_u8_x86_avx2(const SoftmaxArgs& args);

namespace {

constexpr size_t kBytes = 64;
constexpr size_t kPlanes = 4;

inline __mmask64 first_bytes(size_t count) {
  return count >= kBytes ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
}

/// 256 bytes in four registers.
struct ByteTable {
  __m512i parts[4];
};

EDGEKIT_VBMI inline __m512i pick(const ByteTable& table, __m512i x_u8x64) {
  const __m512i lower = _mm512_permutex2var_epi8(table.parts[0], x_u8x64, table.parts[1]);
  const __m512i upper = _mm512_permutex2var_epi8(table.parts[2], x_u8x64, table.parts[3]);
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(x_u8x64), lower, upper);
}

/// Cuts the entries into planes.
inline void split(const uint32_t* table, ByteTable* planes) {
  alignas(64) uint8_t bytes[kPlanes][kCodes];
  for (size_t i = 0; i < kCodes; i += 16) {
    __m512i entries = _mm512_loadu_si512(table + i);
    for (auto& plane : bytes) {
      _mm_store_si128(reinterpret_cast<__m128i*>(plane + i), _mm512_cvtepi32_epi8(entries));
      entries = _mm512_srli_epi32(entries, 8);
    }
  }
  for (size_t p = 0; p < kPlanes; ++p) {
    for (size_t i = 0; i < 4; ++i) {
      planes[p].parts[i] = _mm512_load_si512(bytes[p] + i * kBytes);
    }
  }
}

inline uint8_t largest(const uint8_t* x, size_t n) {
  __m512i best = _mm512_setzero_si512();
  for (size_t i = 0; i < n; i += kBytes) {
    best = _mm512_max_epu8(best, _mm512_maskz_loadu_epi8(first_bytes(n - i), x + i));
  }
  const __m256i half =
      _mm256_max_epu8(_mm512_castsi512_si256(best), _mm512_extracti64x4_epi64(best, 1));
  __m128i bytes = _mm_max_epu8(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  // The least of eight words that hold the complements of pairs.
  bytes = _mm_xor_si128(bytes, _mm_set1_epi8(-1));
  bytes = _mm_min_epu8(bytes, _mm_srli_epi16(bytes, 8));
  return static_cast<uint8_t>(~_mm_extract_epi8(_mm_minpos_epu16(bytes), 0));
}

/// Returns the sum of the entries of all distances from `top`.
EDGEKIT_VBMI inline uint64_t sum_entries(const ByteTable* planes, __m512i top, const uint8_t* x,
                                         size_t n) {
  const __m512i zero = _mm512_setzero_si512();
  __m512i sums[kPlanes] = {zero, zero, zero, zero};
  for (size_t i = 0; i < n; i += kBytes) {
    const __mmask64 mask = first_bytes(n - i);
    const __m512i distances = _mm512_sub_epi8(top, _mm512_maskz_loadu_epi8(mask, x + i));
    for (size_t p = 0; p < kPlanes; ++p) {
      const __m512i bytes = _mm512_maskz_mov_epi8(mask, pick(planes[p], distances));
      sums[p] = _mm512_add_epi64(sums[p], _mm512_sad_epu8(bytes, zero));
    }
  }
  const __m512i low = _mm512_add_epi64(sums[0], _mm512_slli_epi64(sums[1], 8));
  const __m512i high = _mm512_add_epi64(sums[2], _mm512_slli_epi64(sums[3], 8));
  return static_cast<uint64_t>(
      _mm512_reduce_add_epi64(_mm512_add_epi64(low, _mm512_slli_epi64(high, 16))));
}

/// What all shares of a row have in common.
struct Row {
  Row(const SoftmaxArgs& softmax_args, uint64_t sum)
      : args(softmax_args),
        divisor(sum << 16u),
        factor(_mm512_set1_pd(static_cast<double>(args.ratio) / static_cast<double>(divisor))),
        zero_point(_mm512_set1_epi32(args.zero_point)),
        lo(_mm512_set1_epi32(args.lo)),
        hi(_mm512_set1_epi32(args.hi)) {}

  const SoftmaxArgs& args;
  uint64_t divisor;
  __m512d factor;
  __m512i zero_point;
  __m512i lo;
  __m512i hi;
};

/// Returns rne(e * factor) of eight entries, as round_shares() of loops.h; sets the bits of those
/// whose rounding could be wrong.
inline __m256i round_eight(const Row& row, __m256i e, __mmask8* close) {
  const __m512d share =
      _mm512_min_pd(_mm512_mul_pd(_mm512_cvtepi32_pd(e), row.factor), _mm512_set1_pd(1024.0));
  const __m512d off = _mm512_abs_pd(_mm512_reduce_pd(share, _MM_FROUND_TO_NEAREST_INT));
  *close = _mm512_cmp_pd_mask(off, _mm512_set1_pd(0.5 - 0x1p-30), _CMP_NLT_UQ);
  return _mm512_cvtpd_epi32(share);
}

/// Returns the codes of sixteen entries, one a lane.
inline __m512i find_codes(const Row& row, __m512i e) {
  __mmask8 close_low = 0;
  __mmask8 close_high = 0;
  const __m256i low = round_eight(row, _mm512_castsi512_si256(e), &close_low);
  const __m256i high = round_eight(row, _mm512_extracti64x4_epi64(e, 1), &close_high);
  const __m512i shares = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  const __m512i codes =
      _mm512_max_epi32(_mm512_min_epi32(_mm512_add_epi32(shares, row.zero_point), row.hi), row.lo);
  uint32_t close = close_low | static_cast<uint32_t>(close_high) << 8u;
  if (close == 0) return codes;
  alignas(64) uint32_t entries[16];
  alignas(64) uint32_t exact[16];
  _mm512_store_si512(entries, e);
  _mm512_store_si512(exact, codes);
  for (; close != 0; close &= close - 1) {
    const auto lane = static_cast<size_t>(__builtin_ctz(close));
    exact[lane] = share(row.args, entries[lane], row.divisor);
  }
  return _mm512_load_si512(exact);
}

/// Returns the codes of 64 entries as bytes; within each 128 bits they are in the entries' order.
inline __m512i find_bytes(const Row& row, __m512i e0, __m512i e1, __m512i e2, __m512i e3) {
  return _mm512_packus_epi16(_mm512_packs_epi32(find_codes(row, e0), find_codes(row, e1)),
                             _mm512_packs_epi32(find_codes(row, e2), find_codes(row, e3)));
}

/// Computes a row element by element.
EDGEKIT_VBMI void run_short(const Row& row, const ByteTable* planes, __m512i top, const uint8_t* x,
                            uint8_t* y) {
  const size_t n = row.args.n;
  for (size_t i = 0; i < n; i += kBytes) {
    const __mmask64 mask = first_bytes(n - i);
    const __m512i distances = _mm512_sub_epi8(top, _mm512_maskz_loadu_epi8(mask, x + i));
    const __m512i b0 = pick(planes[0], distances);
    const __m512i b1 = pick(planes[1], distances);
    const __m512i b2 = pick(planes[2], distances);
    const __m512i b3 = pick(planes[3], distances);
    const __m512i low01 = _mm512_unpacklo_epi8(b0, b1);
    const __m512i low23 = _mm512_unpacklo_epi8(b2, b3);
    const __m512i high01 = _mm512_unpackhi_epi8(b0, b1);
    const __m512i high23 = _mm512_unpackhi_epi8(b2, b3);
    const __m512i codes =
        find_bytes(row, _mm512_unpacklo_epi16(low01, low23), _mm512_unpackhi_epi16(low01, low23),
                   _mm512_unpacklo_epi16(high01, high23), _mm512_unpackhi_epi16(high01, high23));
    _mm512_mask_storeu_epi8(y + i, mask, codes);
  }
}

/// Computes the code of every distance, then looks the elements up.
EDGEKIT_VBMI void run_long(const Row& row, __m512i top, const uint8_t* x, uint8_t* y) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  ByteTable codes;
  for (size_t i = 0; i < 4; ++i) {
    const uint32_t* e = row.args.table + i * kBytes;
    codes.parts[i] = _mm512_permutexvar_epi32(
        order, find_bytes(row, _mm512_loadu_si512(e), _mm512_loadu_si512(e + 16),
                          _mm512_loadu_si512(e + 32), _mm512_loadu_si512(e + 48)));
  }
  for (size_t i = 0; i < row.args.n; i += kBytes) {
    const __mmask64 mask = first_bytes(row.args.n - i);
    const __m512i distances = _mm512_sub_epi8(top, _mm512_maskz_loadu_epi8(mask, x + i));
    _mm512_mask_storeu_epi8(y + i, mask, pick(codes, distances));
  }
}

EDGEKIT_VBMI void run(const SoftmaxArgs& args) {
  ByteTable planes[kPlanes];
  split(args.table, planes);
  for (size_t r = 0; r < args.rows; ++r) {
    const uint8_t* x = args.x + r * args.n;
    uint8_t* y = args.y + r * args.n;
    const __m512i top = _mm512_set1_epi8(static_cast<int8_t>(largest(x, args.n)));
    const Row row(args, sum_entries(planes, top, x, args.n));
    if (args.n <= kCodes) {
      run_short(row, planes, top, x, y);
    } else {
      run_long(row, top, x, y);
    }
  }
}

}  // namespace

void softmax_u8_u8_x86_avx512vnni(const SoftmaxArgs& args) {
  if (__builtin_cpu_supports("avx512vbmi")) return run(args);
  softmax_u8_u8_x86_avx2(args);
}

}  // namespace edgekit
