#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/store_x86_avx512vnni.h"
#include "kernels/requantize_x86_avx512vnni.h"

// One tile of the x86_avx512vnni kernels: its accumulators, a step of its multiplication, and the
// way to its results. A tile is a few rows by panels of w; a step takes 64 bytes of each panel, 4
// of k for 16 columns:
//
//                 b0      b1      b2      b3
//   row 0   a0    acc00   acc01   acc02   acc03      a: 4 bytes, broadcast from memory
//   ...
//   row 5   a5    acc50   acc51   acc52   acc53
//
// or 8 of k for 8 columns, a: 8 bytes. Of weights of 4 bits, a step takes 8 of k for 16 columns.
// Neighbouring lanes then hold one column's sums over either half of them, and are added in the
// end, when a tile of panels of 8 is folded into one of 16.
//
// The functions are static and the members inlined, so that no code built for this instruction set
// is shared with the rest of the program.

namespace edgekit {

/// Columns of a vector of sums.
constexpr size_t kLanes = 16;
constexpr size_t kHalfLanes = kLanes / 2;
constexpr size_t kStepBytes = 64;
constexpr size_t kMaxPanels = 4;
constexpr size_t kMaxRows = 8;

/// A tile of kRowCount rows by kPanelCount panels of kPanelColumns, of weights of kWeightBits.
template <int kRowCount, int kPanelCount, int kPanelColumns, int kWeightBits>
struct Shape {
  static constexpr int kRows = kRowCount;
  static constexpr int kPanels = kPanelCount;
  static constexpr size_t kPanel = kPanelColumns;
  static constexpr size_t kColumns = kPanels * kPanel;
  static constexpr size_t kKr = kStepBytes / kPanel;
  static constexpr int kBits = kWeightBits;
  /// Of k, at a step.
  static constexpr size_t kStep = kKr * 8 / kBits;
  static constexpr int kVectors = kRows * kPanels;

  /// Which accumulator holds panel p of row i.
  static constexpr int at(int i, int p) { return i * kPanels + p; }
};

/// Sums as they are requantized: of each row kWhole vectors of 16 columns and, if kHalf, 8 columns
/// that share a vector with those of the next row.
template <class S>
struct Sums {
  static constexpr int kRows = S::kRows;
  static constexpr int kWhole = static_cast<int>(S::kColumns / kLanes);
  static constexpr bool kHalf = S::kColumns % kLanes != 0;
  static constexpr int kVectors = kRows * kWhole + (kHalf ? (kRows + 1) / 2 : 0);

  /// Which vector holds columns [16 * v, 16 * v + 16) of row i.
  static constexpr int whole(int i, int v) { return i * kWhole + v; }

  /// Which vector holds the last 8 columns of rows i, which is even, and i + 1, if it exists.
  static constexpr int half(int i) { return kRows * kWhole + i / 2; }
};

/// What all tiles of a call share.
struct Call {
  const GemmArgs& args;
  size_t steps;
  size_t panel_bytes;
  Epilogue epilogue;
  /// Room for one tile of accumulators, for Epilogue::kOther.
  int32_t* accumulators;
};

/// A block of columns, at most kMaxPanels panels, with its constants side by side: one pointer
/// reaches them all.
struct Block {
  /// As the accumulators of a row start.
  __m512i bias[kMaxPanels];
  /// Of the sums of a row; of 8 columns twice. Or of FusedRequantize slopes and shifts.
  __m512 scale[kMaxPanels];
  __m512 shift[kMaxPanels];
  RequantizeBytes bytes;
  /// The even and the odd lanes of two vectors. Here GCC 12 reads them where it needs them;
  /// constants it would keep in registers, and accumulators on the stack.
  __m512i even;
  __m512i odd;
  const Call& call;
  const int8_t* w;
  size_t column;
  size_t columns;
  /// The columns as bytes of a row.
  __mmask64 lanes;
  /// What the next block reads of w, in lines of 64 bytes; 0 behind the last.
  size_t next_lines;
};

/// acc[c] += sum over 4 of a (u8) * b (s8). The intrinsic makes GCC 12 spill the accumulators.
static inline void dot(__m512i& acc_s32x16, __m512i a_u8x64, __m512i b_s8x64) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(acc_s32x16) : "v"(a_u8x64), "v"(b_s8x64));
}

/// Loads 64 bytes. The intrinsic lets GCC 12 load again for every use, as if registers were scarce.
static inline __m512i load64(const int8_t* from) {
  __m512i bytes;
  __asm__("vmovdqu64 %1, %0" : "=v"(bytes) : "m"(*reinterpret_cast<const int8_t (*)[64]>(from)));
  return bytes;
}

/// kKr bytes of a row, over and over.
template <size_t kKr>
__attribute__((always_inline)) static inline __m512i broadcast(const uint8_t* a) {
  if constexpr (kKr == 4) {
    int32_t bytes = 0;
    std::memcpy(&bytes, a, sizeof(bytes));
    return _mm512_set1_epi32(bytes);
  } else {
    int64_t bytes = 0;
    std::memcpy(&bytes, a, sizeof(bytes));
    return _mm512_set1_epi64(bytes);
  }
}

/// Starts every row with the bias.
template <class S>
__attribute__((always_inline)) static inline void load_bias(const Block& block,
                                                            __m512i (&acc)[S::kVectors]) {
#pragma GCC unroll 4
  for (int p = 0; p < S::kPanels; ++p) {
    acc[S::at(0, p)] = block.bias[p];
#pragma GCC unroll 12
    for (int i = 1; i < S::kRows; ++i) acc[S::at(i, p)] = acc[S::at(0, p)];
  }
}

/// Which weights of 64 bytes are multiplied: halves of a byte as its upper half, 16 times as much.
enum class Part : uint8_t { kBytes, kLowerHalves, kUpperHalves };

/// Where kCrowded, no register is left for a mask, and GCC 12 would make room for one on the stack.
template <Part kPart, bool kCrowded>
__attribute__((always_inline)) static inline __m512i load_weights(const int8_t* w) {
  static constexpr uint32_t kUpper = 0xF0F0F0F0;
  __m512i weights;
  if constexpr (kPart == Part::kBytes) {
    weights = load64(w);
  } else if constexpr (!kCrowded) {
    const __m512i upper = _mm512_set1_epi32(static_cast<int32_t>(kUpper));
    const __m512i bytes = load64(w);
    weights = kPart == Part::kUpperHalves ? _mm512_and_si512(bytes, upper)
                                          : _mm512_and_si512(_mm512_slli_epi16(bytes, 4), upper);
  } else if constexpr (kPart == Part::kUpperHalves) {
    __asm__("vmovdqu64 %1, %0\n\tvpandd %2%{1to16%}, %0, %0"
            : "=&v"(weights)
            : "m"(*reinterpret_cast<const int8_t (*)[64]>(w)), "m"(kUpper));
  } else {
    __asm__("vpsllw $4, %1, %0\n\tvpandd %2%{1to16%}, %0, %0"
            : "=&v"(weights)
            : "m"(*reinterpret_cast<const int8_t (*)[64]>(w)), "m"(kUpper));
  }
  return weights;
}

/// Adds the products of kKr of k of every row, from byte `k` on.
template <class S, Part kPart>
__attribute__((always_inline)) static inline void multiply_part(
    __m512i (&acc)[S::kVectors], const uint8_t* const (&rows)[S::kRows], size_t k, const int8_t* w,
    size_t panel_bytes) {
  __m512i b[S::kPanels];
#pragma GCC unroll 4
  for (int p = 0; p < S::kPanels; ++p) {
    b[p] = load_weights<kPart, (S::kVectors >= 8)>(w + static_cast<size_t>(p) * panel_bytes);
  }
#pragma GCC unroll 12
  for (int i = 0; i < S::kRows; ++i) {
    const __m512i a_i = broadcast<S::kKr>(rows[i] + k);
#pragma GCC unroll 4
    for (int p = 0; p < S::kPanels; ++p) dot(acc[S::at(i, p)], a_i, b[p]);
  }
}

/// One step: kStep of k of every row, from byte `k` on.
template <class S>
__attribute__((always_inline)) static inline void multiply(__m512i (&acc)[S::kVectors],
                                                           const uint8_t* const (&rows)[S::kRows],
                                                           size_t k, const int8_t* w,
                                                           size_t panel_bytes) {
  if constexpr (S::kBits == 8) {
    multiply_part<S, Part::kBytes>(acc, rows, k, w, panel_bytes);
  } else {
    multiply_part<S, Part::kLowerHalves>(acc, rows, k, w, panel_bytes);
    multiply_part<S, Part::kUpperHalves>(acc, rows, k + S::kKr, w, panel_bytes);
  }
}

/// Adds each two lanes of a and b: 8 columns of a, then 8 of b.
__attribute__((always_inline)) static inline __m512i add_pairs(const Block& block, __m512i a,
                                                               __m512i b) {
  return _mm512_add_epi32(_mm512_permutex2var_epi32(a, block.even, b),
                          _mm512_permutex2var_epi32(a, block.odd, b));
}

/// Turns accumulators into sums.
template <class S>
__attribute__((always_inline)) static inline void fold(const Block& block,
                                                       const __m512i (&acc)[S::kVectors],
                                                       __m512i (&sums)[Sums<S>::kVectors]) {
  using T = Sums<S>;
#pragma GCC unroll 12
  for (int i = 0; i < S::kRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < T::kWhole; ++v) {
      if constexpr (S::kPanel == kLanes) {
        sums[T::whole(i, v)] = acc[S::at(i, v)];
      } else {
        sums[T::whole(i, v)] = add_pairs(block, acc[S::at(i, 2 * v)], acc[S::at(i, 2 * v + 1)]);
      }
    }
    if constexpr (T::kHalf) {
      const int next = i + 1 < S::kRows ? i + 1 : i;
      const int last = S::kPanels - 1;
      if (i % 2 == 0)
        sums[T::half(i)] = add_pairs(block, acc[S::at(i, last)], acc[S::at(next, last)]);
    }
  }
}

/// Where a tile's results belong, and its residual lies.
struct Place {
  uint8_t* y;
  size_t y_stride;
  const uint8_t* residual;
  size_t residual_stride;

  /// The place of the tile that begins at row `row`.
  __attribute__((always_inline)) Place(const Block& block, size_t row)
      : y_stride(block.call.args.y_stride),
        residual_stride(block.call.args.requantize.residual_stride) {
    const GemmArgs& args = block.call.args;
    const size_t before = block.column * (args.output == Output::kCodes ? 1 : sizeof(float));
    y = static_cast<uint8_t*>(args.y) + row * y_stride + before;
    residual = args.requantize.residual + row * residual_stride + before;
  }

  /// Goes `rows` rows on.
  __attribute__((always_inline)) void advance(size_t rows) {
    y += rows * y_stride;
    residual += rows * residual_stride;
  }
};

/// Stores the bytes of one row of a block of kWhole vectors.
template <int kWhole>
__attribute__((always_inline)) static inline void store_bytes(const Block& block, uint8_t* y,
                                                              __m512i bytes) {
  if (__builtin_expect(block.columns < kWhole * kLanes, 0)) {
    _mm512_mask_storeu_epi8(y, block.lanes, bytes);
  } else if constexpr (kWhole == 4) {
    _mm512_storeu_si512(y, bytes);
  } else if constexpr (kWhole == 3) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm512_castsi512_si256(bytes));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + 32), _mm512_extracti32x4_epi32(bytes, 2));
  } else if constexpr (kWhole == 2) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm512_castsi512_si256(bytes));
  } else {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), _mm512_castsi512_si128(bytes));
  }
}

/// Stores the last columns of one row, behind kWhole vectors: the low half of `bytes`.
template <int kWhole>
__attribute__((always_inline)) static inline void store_half(const Block& block, uint8_t* y,
                                                             __m128i bytes) {
  constexpr size_t kBefore = kWhole * kLanes;
  if (__builtin_expect(block.columns < kBefore + kHalfLanes, 0)) {
    _mm_mask_storeu_epi8(y + kBefore, static_cast<__mmask16>(block.lanes >> kBefore), bytes);
  } else {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(y + kBefore), bytes);
  }
}

/// The codes of columns [16 * v, 16 * v + 16) of a row at `place`, an int32 a lane.
template <Epilogue kEpilogue>
__attribute__((always_inline)) static inline __m512i round_whole(const Block& block,
                                                                 const Place& place, int v,
                                                                 __m512i sums) {
  if constexpr (is_fused(kEpilogue)) {
    return fused_product(sums, block.scale[v], block.shift[v]);
  } else if constexpr (kEpilogue != Epilogue::kResidualSums) {
    return rounded_product(sums, block.scale[v]);
  } else {
    const size_t c = static_cast<size_t>(v) * kLanes;
    const __mmask16 lanes = static_cast<__mmask16>(block.lanes >> c);
    return rounded_sum(block.call.args.requantize, sums, block.scale[v],
                       _mm_maskz_loadu_epi8(lanes, place.residual + c));
  }
}

/// The codes of the last columns of two rows at `first` and `second`, an int32 a lane.
template <Epilogue kEpilogue, int kWhole>
__attribute__((always_inline)) static inline __m512i round_half(const Block& block,
                                                                const Place& first,
                                                                const Place& second, __m512i sums) {
  if constexpr (is_fused(kEpilogue)) {
    return fused_product(sums, block.scale[kWhole], block.shift[kWhole]);
  } else if constexpr (kEpilogue != Epilogue::kResidualSums) {
    return rounded_product(sums, block.scale[kWhole]);
  } else {
    constexpr size_t kBefore = kWhole * kLanes;
    const __mmask16 lanes = static_cast<__mmask16>(block.lanes >> kBefore);
    const __m128i a = _mm_maskz_loadu_epi8(lanes, first.residual + kBefore);
    const __m128i b = _mm_maskz_loadu_epi8(lanes, second.residual + kBefore);
    return rounded_sum(block.call.args.requantize, sums, block.scale[kWhole],
                       _mm_unpacklo_epi64(a, b));
  }
}

/// Packs four vectors of codes.
template <Epilogue kEpilogue>
__attribute__((always_inline)) static inline __m512i pack(const Block& block, __m512i v0,
                                                          __m512i v1, __m512i v2, __m512i v3) {
  if constexpr (kEpilogue == Epilogue::kFused) {
    return pack_fused(block.bytes, v0, v1, v2, v3);
  } else if constexpr (kEpilogue == Epilogue::kFusedClamped) {
    return pack_fused_clamped(block.bytes, v0, v1, v2, v3);
  } else if constexpr (kEpilogue == Epilogue::kSaturated) {
    return pack_saturated(block.bytes, v0, v1, v2, v3);
  } else if constexpr (kEpilogue == Epilogue::kUnclamped) {
    return pack_unclamped(block.bytes, v0, v1, v2, v3);
  } else {
    return pack_bytes(block.bytes, v0, v1, v2, v3);
  }
}

/// Requantizes, packs and stores sums of half a vector, or of a vector and a half, two rows at a
/// time.
template <Epilogue kEpilogue, class T>
__attribute__((always_inline)) static inline void store_halves(const Block& block, Place place,
                                                               const __m512i (&sums)[T::kVectors]) {
  static_assert(T::kWhole <= 1, "the rows of a pack are two");
#pragma GCC unroll 12
  for (int i = 0; i < T::kRows; i += 2) {
    Place next = place;
    if (i + 1 < T::kRows) next.advance(1);
    const __m512i halves = round_half<kEpilogue, T::kWhole>(block, place, next, sums[T::half(i)]);
    __m512i first = halves;
    __m512i second = halves;
    if constexpr (T::kWhole == 1) {
      first = round_whole<kEpilogue>(block, place, 0, sums[T::whole(i, 0)]);
      second = first;
      if (i + 1 < T::kRows) {
        second = round_whole<kEpilogue>(block, next, 0, sums[T::whole(i + 1, 0)]);
      }
    }
    const __m512i bytes = pack<kEpilogue>(block, halves, halves, first, second);
    const __m128i half = _mm512_castsi512_si128(bytes);
    store_half<T::kWhole>(block, place.y, half);
    if constexpr (T::kWhole == 1) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(place.y), _mm512_extracti32x4_epi32(bytes, 2));
    }
    if (i + 1 < T::kRows) {
      store_half<T::kWhole>(block, next.y, _mm_unpackhi_epi64(half, half));
      if constexpr (T::kWhole == 1) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(next.y), _mm512_extracti32x4_epi32(bytes, 3));
      }
    }
    place.advance(2);
  }
}

/// Requantizes, packs and stores whole vectors of sums, four at a time: of one row, of two rows by
/// two or of four by one. Vectors that there are not repeat the first, and are not stored.
template <Epilogue kEpilogue, class T>
__attribute__((always_inline)) static inline void store_whole(const Block& block, Place place,
                                                              const __m512i (&sums)[T::kVectors]) {
  constexpr int kWhole = T::kWhole;
  constexpr int kMostRows = kWhole == 1 ? 4 : kWhole == 2 ? 2 : 1;
  constexpr int kPackRows = T::kRows % kMostRows == 0 ? kMostRows : T::kRows % 2 == 0 ? 2 : 1;
  const size_t y_stride = place.y_stride;
#pragma GCC unroll 12
  for (int first = 0; first < T::kRows; first += kPackRows) {
    __m512i codes[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      if (j >= kPackRows * kWhole) {
        codes[j] = codes[0];
        continue;
      }
      Place row = place;
      row.advance(static_cast<size_t>(j / kWhole));
      codes[j] = round_whole<kEpilogue>(block, row, j % kWhole,
                                        sums[T::whole(first + j / kWhole, j % kWhole)]);
    }
    const __m512i bytes = pack<kEpilogue>(block, codes[0], codes[1], codes[2], codes[3]);
    store_bytes<kWhole>(block, place.y, bytes);
    if constexpr (kWhole == 2 && kPackRows == 2) {
      const __m256i second = _mm512_extracti64x4_epi64(bytes, 1);
      store_bytes<kWhole>(block, place.y + y_stride, _mm512_castsi256_si512(second));
    }
    if constexpr (kWhole == 1 && kPackRows >= 2) {
      const __m128i second = _mm512_extracti32x4_epi32(bytes, 1);
      store_bytes<kWhole>(block, place.y + y_stride, _mm512_castsi128_si512(second));
    }
    if constexpr (kWhole == 1 && kPackRows == 4) {
      const __m128i third = _mm512_extracti32x4_epi32(bytes, 2);
      const __m128i fourth = _mm512_extracti32x4_epi32(bytes, 3);
      store_bytes<kWhole>(block, place.y + 2 * y_stride, _mm512_castsi128_si512(third));
      store_bytes<kWhole>(block, place.y + 3 * y_stride, _mm512_castsi128_si512(fourth));
    }
    place.advance(kPackRows);
  }
}

/// Returns the mask of lanes that are columns of a block, `before` columns in.
__attribute__((always_inline)) static inline __mmask16 columns_from(const Block& block,
                                                                    size_t before) {
  return static_cast<__mmask16>(block.lanes >> before);
}

/// Returns float32(sum) * scale, with kFloatSums added to what lies at `residual`.
template <Epilogue kEpilogue>
__attribute__((always_inline)) static inline __m512 make_floats(__m512i sums, __m512 scale,
                                                                const uint8_t* residual,
                                                                __mmask16 lanes) {
  const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale);
  if constexpr (kEpilogue == Epilogue::kFloats) return product;
  return _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, residual), product);
}

/// Stores a tile as float32.
template <Epilogue kEpilogue, class T>
__attribute__((always_inline)) static inline void store_floats(const Block& block, Place place,
                                                               const __m512i (&sums)[T::kVectors]) {
  constexpr size_t kVectorBytes = kLanes * sizeof(float);
  constexpr size_t kBefore = T::kWhole * kLanes;
  constexpr size_t kHalfAt = T::kWhole * kVectorBytes;
#pragma GCC unroll 12
  for (int i = 0; i < T::kRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < T::kWhole; ++v) {
      const size_t at = static_cast<size_t>(v) * kVectorBytes;
      const __mmask16 lanes = columns_from(block, static_cast<size_t>(v) * kLanes);
      const __m512 floats =
          make_floats<kEpilogue>(sums[T::whole(i, v)], block.scale[v], place.residual + at, lanes);
      _mm512_mask_storeu_ps(place.y + at, lanes, floats);
    }
    if constexpr (T::kHalf) {
      __m512i half = sums[T::half(i / 2 * 2)];
      if (i % 2 == 1) half = _mm512_castsi256_si512(_mm512_extracti64x4_epi64(half, 1));
      const __mmask16 lanes = columns_from(block, kBefore);
      const __m512 floats =
          make_floats<kEpilogue>(half, block.scale[T::kWhole], place.residual + kHalfAt, lanes);
      _mm512_mask_storeu_ps(place.y + kHalfAt, lanes, floats);
    }
    place.advance(1);
  }
}

/// Requantizes, packs and stores a tile.
template <Epilogue kEpilogue, class S>
__attribute__((always_inline)) static inline void store_tile(const Block& block, const Place& place,
                                                             const __m512i (&acc)[S::kVectors]) {
  using T = Sums<S>;
  __m512i sums[T::kVectors];
  fold<S>(block, acc, sums);
  if constexpr (kEpilogue == Epilogue::kFloats || kEpilogue == Epilogue::kFloatSums) {
    store_floats<kEpilogue, T>(block, place, sums);
  } else if constexpr (T::kHalf) {
    store_halves<kEpilogue, T>(block, place, sums);
  } else {
    store_whole<kEpilogue, T>(block, place, sums);
  }
}

/// Writes the sums of a tile to memory, rows kMaxPanels * kLanes apart.
template <class S>
__attribute__((always_inline)) static inline void spill_tile(const Block& block,
                                                             const __m512i (&acc)[S::kVectors],
                                                             int32_t* to) {
  using T = Sums<S>;
  __m512i sums[T::kVectors];
  fold<S>(block, acc, sums);
#pragma GCC unroll 12
  for (int i = 0; i < S::kRows; ++i, to += kMaxPanels * kLanes) {
#pragma GCC unroll 4
    for (int v = 0; v < T::kWhole; ++v) {
      _mm512_store_si512(to + static_cast<size_t>(v) * kLanes, sums[T::whole(i, v)]);
    }
    if constexpr (T::kHalf) {
      const __m512i both = sums[T::half(i / 2 * 2)];
      const __m256i own =
          i % 2 == 0 ? _mm512_castsi512_si256(both) : _mm512_extracti64x4_epi64(both, 1);
      _mm256_store_si256(reinterpret_cast<__m256i*>(to + T::kWhole * kLanes), own);
    }
  }
}

}  // namespace edgekit
