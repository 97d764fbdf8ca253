#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise/depthwise.h"
#include "kernels/depthwise/four_taps_x86.h"
#include "kernels/requantize_x86_avx512vnni.h"

// Half a tile is 1 or 2 output rows by 7 pixels by 32 channels: 28 accumulators, 2 of weights, 1 of
// input.

namespace edgekit {
namespace {

struct Zmm {
  using Vector = __m512i;
  static constexpr size_t kCr = 64;
  template <size_t kRows>
  static constexpr size_t kTile = 7;

  static __m512i load(const void* from) { return _mm512_loadu_si512(from); }

  /// A load that GCC does not repeat as an operand of each instruction that needs it: most of these
  /// cross cache lines.
  static __m512i load_once(const uint8_t* from) {
    __m512i v = load(from);
    __asm__("" : "+v"(v));
    return v;
  }

  static void store(void* to, __m512i v) { _mm512_store_si512(to, v); }

  /// The intrinsic makes GCC 12 spill the accumulators.
  static void dot(__m512i& acc_s32x16, __m512i x_u8x64, __m512i w_s8x64) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc_s32x16) : "v"(x_u8x64), "v"(w_s8x64));
  }

  /// The same with weights in memory, at a constant distance from w, of whose kSize bytes they are
  /// a part: GCC would keep every address in a register of its own, for which there is no room.
  template <size_t kOffset, size_t kSize>
  static void dot_memory(__m512i& acc_s32x16, __m512i x_u8x64, const int8_t* w) {
    __asm__("vpdpbusd %c3(%2), %1, %0"
            : "+v"(acc_s32x16)
            : "v"(x_u8x64), "r"(w), "i"(kOffset),
              "m"(*reinterpret_cast<const int8_t (*)[kSize]>(w)));
  }

  static __m512i move_down(__m512i w_s8x64, __m512i above_s8x64) {
    return _mm512_or_si512(_mm512_slli_epi32(w_s8x64, 8), _mm512_srli_epi32(above_s8x64, 24));
  }

  static void interleave(const uint8_t* const* rows, size_t offset, uint8_t* to) {
    const __m512i row_0 = load_once(rows[0] + offset);
    const __m512i row_1 = load_once(rows[1] + offset);
    const __m512i row_2 = load_once(rows[2] + offset);
    const __m512i row_3 = load_once(rows[3] + offset);
    const __m512i low_01 = _mm512_unpacklo_epi8(row_0, row_1);
    const __m512i low_23 = _mm512_unpacklo_epi8(row_2, row_3);
    const __m512i high_01 = _mm512_unpackhi_epi8(row_0, row_1);
    const __m512i high_23 = _mm512_unpackhi_epi8(row_2, row_3);
    store(to, _mm512_unpacklo_epi16(low_01, low_23));
    store(to + kCr, _mm512_unpackhi_epi16(low_01, low_23));
    store(to + 2 * kCr, _mm512_unpacklo_epi16(high_01, high_23));
    store(to + 3 * kCr, _mm512_unpackhi_epi16(high_01, high_23));
  }

  static bool products_fit(const DepthwiseArgs& args) {
    return products_fit_int32(args.requantize.scale, args.channels);
  }

  static __m512i splat_words(int32_t value) {
    return _mm512_set1_epi16(static_cast<int16_t>(value));
  }

  /// Returns the rounded products of two parts in 16 bits.
  static __m512i products(__m512i acc_0_s32x16, __m512i acc_1_s32x16, const float* scale) {
    return _mm512_packs_epi32(rounded_product(acc_0_s32x16, _mm512_loadu_ps(scale)),
                              rounded_product(acc_1_s32x16, _mm512_loadu_ps(scale + kCr / 4)));
  }

  static __m512i words(__m512i acc_0_s32x16, __m512i acc_1_s32x16, const float* scale,
                       __m512i zero_point_s16x32) {
    return _mm512_adds_epi16(products(acc_0_s32x16, acc_1_s32x16, scale), zero_point_s16x32);
  }

  /// Stores the first `count` of 64 bytes. Masked stores are slow on some processors, so only the
  /// last few go through one.
  static void store_first(uint8_t* y, __m512i bytes, size_t count) {
    if (count >= kCr) return _mm512_storeu_si512(y, bytes);
    __m256i half = _mm512_castsi512_si256(bytes);
    if (count >= 32) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), half);
      half = _mm512_extracti64x4_epi64(bytes, 1);
      y += 32;
      count -= 32;
    }
    __m128i quarter = _mm256_castsi256_si128(half);
    if (count >= 16) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(y), quarter);
      quarter = _mm256_extracti128_si256(half, 1);
      y += 16;
      count -= 16;
    }
    if (count != 0) _mm_mask_storeu_epi8(y, first_lanes(count), quarter);
  }

  struct Bytes {
    explicit Bytes(const Requantize& requantize) : constants(requantize_bytes(requantize)) {}

    void store(uint8_t* y, __m512i words_0_s16x32, __m512i words_1_s16x32, size_t count) const {
      const __m512i above = _mm512_max_epu8(_mm512_packus_epi16(words_0_s16x32, words_1_s16x32),
                                            constants.lowest_u8x64);
      store_first(y, _mm512_min_epu8(above, constants.highest_u8x64), count);
    }

    RequantizeBytes constants;
  };

  static void store_sums(const DepthwiseArgs& args, size_t i, size_t j, size_t channel,
                         const int32_t* sums) {
    __m512i acc_s32x16 = _mm512_castsi128_si512(load4(sums));
    acc_s32x16 = _mm512_inserti32x4(acc_s32x16, load4(sums + kCr / 4), 1);
    acc_s32x16 = _mm512_inserti32x4(acc_s32x16, load4(sums + 2 * kCr / 4), 2);
    acc_s32x16 = _mm512_inserti32x4(acc_s32x16, load4(sums + 3 * kCr / 4), 3);
    const __mmask16 lanes = first_lanes(args.channels - channel);
    const size_t pixel = j * args.channels + channel;
    const Requantize& requantize = args.requantize;
    const uint8_t* residual = requantize.residual;
    if (residual != nullptr) residual += i * requantize.residual_stride + pixel;
    const __m512i codes = requantize_lanes(requantize, acc_s32x16, channel, residual, lanes);
    _mm_mask_storeu_epi8(args.y + i * args.y_stride + pixel, lanes, _mm512_cvtepi32_epi8(codes));
  }

 private:
  static __m128i load4(const int32_t* from) {
    return _mm_load_si128(reinterpret_cast<const __m128i*>(from));
  }
};

/// One block of channels of some output rows, as slide_rows() takes it.
struct SlidingBlock {
  size_t channels;
  size_t in_width;
  size_t out_width;
  size_t out_rows;
  size_t stride_h;
  size_t dilation_h;
  size_t pad_left;
  /// The input rows, and zero points, which are to be read at `channel`.
  const uint8_t* const* rows;
  const uint8_t* zero;
  size_t channel;
  const int8_t* w;
  /// In the order of parts.
  const int32_t* bias;
  const float* scale;
  /// In memory, for want of registers.
  const Zmm::Bytes& bytes;
  uint8_t* y;
  size_t y_stride;
  /// Channels from this block's first on.
  size_t left;
};

/// Interleaves four rows; equal ones, which stand for taps of weight 0, are unpacked once.
template <size_t kRows>
inline void interleave_rows(const __m512i* x_u8x64, __m512i (&part_u8x64)[FourTaps::kParts]) {
  const __m512i x_1 = x_u8x64[kRows < 2 ? 0 : 1];
  const __m512i x_2 = x_u8x64[kRows < 3 ? 0 : 2];
  const __m512i x_3 = x_u8x64[kRows < 3 ? 0 : kRows < 4 ? 2 : 3];
  const __m512i low_01 = _mm512_unpacklo_epi8(x_u8x64[0], x_1);
  const __m512i high_01 = _mm512_unpackhi_epi8(x_u8x64[0], x_1);
  const __m512i low_23 = _mm512_unpacklo_epi8(x_2, x_3);
  const __m512i high_23 = _mm512_unpackhi_epi8(x_2, x_3);
  part_u8x64[0] = _mm512_unpacklo_epi16(low_01, low_23);
  part_u8x64[1] = _mm512_unpackhi_epi16(low_01, low_23);
  part_u8x64[2] = _mm512_unpacklo_epi16(high_01, high_23);
  part_u8x64[3] = _mm512_unpackhi_epi16(high_01, high_23);
}

/// A row of a 3x3 or 5x5 convolution, whose columns are interleaved in registers when they come,
/// and never stored: each adds to the outputs whose windows hold it, at most 3. The weights of 3x3
/// stay in 12 registers; those of 5x5 are operands in memory, and its fifth row makes a group of
/// its own.
///
/// kPlain says that the zero point is the byte 0 and that all bytes are within bounds.
template <size_t kKernel, size_t kStride, bool kPlain>
struct Slide {
  static constexpr size_t kParts = FourTaps::kParts;
  static constexpr size_t kLanes = Zmm::kCr / kParts;
  static constexpr size_t kGroups = kKernel <= FourTaps::kKr ? 1 : 2;
  static constexpr bool kWeightsInRegisters = kGroups == 1;
  /// Outputs that wait for columns.
  static constexpr size_t kOpen = (kKernel + kStride - 1) / kStride;

  /// Adds column kColumn of the window of the output whose turn it is, and of those that come
  /// later.
  template <size_t kTurn, size_t kColumn>
  __attribute__((always_inline)) void add_column() {
    const bool inside = column < block.in_width;
    const size_t offset = column * block.channels;
    ++column;
    // GCC would keep a pointer to each of five rows instead of this, more than there are registers.
    if constexpr (kGroups == 2) __asm__("" : "+r"(column));
    add_group<kTurn, kColumn, 0>(inside, offset);
    if constexpr (kGroups == 2) add_group<kTurn, kColumn, 1>(inside, offset);
  }

  template <size_t kTurn, size_t kColumn, size_t kGroup>
  __attribute__((always_inline)) void add_group(bool inside, size_t offset) {
    constexpr size_t kFirst = kGroup * FourTaps::kKr;
    constexpr size_t kRows = kKernel - kFirst < FourTaps::kKr ? kKernel - kFirst : FourTaps::kKr;
    // Keeps these loads, and so their registers, behind those before.
    if constexpr (kStride == 2) __asm__ volatile("" : : : "memory");
    const uint8_t* from[kRows];
#pragma GCC unroll 4
    for (size_t r = 0; r < kRows; ++r) from[r] = zero;
    if (inside) {
#pragma GCC unroll 4
      for (size_t r = 0; r < kRows; ++r) from[r] = rows[kFirst + r] + offset;
    }
    __m512i loaded[kRows];
#pragma GCC unroll 4
    for (size_t r = 0; r < kRows; ++r) loaded[r] = Zmm::load_once(from[r]);
    __m512i x[kParts];
    interleave_rows<kRows>(loaded, x);
    add<kTurn, kColumn, 0, kGroup>(x);
    if constexpr (kColumn >= kStride) add<kTurn, kColumn - kStride, 1, kGroup>(x);
    if constexpr (kColumn >= 2 * kStride) add<kTurn, kColumn - 2 * kStride, 2, kGroup>(x);
    if constexpr (kColumn >= 3 * kStride) add<kTurn, kColumn - 3 * kStride, 3, kGroup>(x);
    if constexpr (kColumn >= 4 * kStride) add<kTurn, kColumn - 4 * kStride, 4, kGroup>(x);
  }

  template <size_t kTurn, size_t kTap, size_t kAhead, size_t kGroup>
  __attribute__((always_inline)) void add(const __m512i (&x)[kParts]) {
    __m512i(&sums)[kParts] = acc[(kTurn + kAhead) % kOpen];
    if constexpr (kWeightsInRegisters) {
#pragma GCC unroll 4
      for (size_t part = 0; part < kParts; ++part) Zmm::dot(sums[part], x[part], w[kTap][part]);
    } else {
      constexpr size_t kSize = kKernel * kGroups * kParts * Zmm::kCr;
      constexpr size_t kFirst = (kTap * kGroups + kGroup) * kParts * Zmm::kCr;
      Zmm::dot_memory<kFirst, kSize>(sums[0], x[0], block.w);
      Zmm::dot_memory<kFirst + Zmm::kCr, kSize>(sums[1], x[1], block.w);
      Zmm::dot_memory<kFirst + 2 * Zmm::kCr, kSize>(sums[2], x[2], block.w);
      Zmm::dot_memory<kFirst + 3 * Zmm::kCr, kSize>(sums[3], x[3], block.w);
    }
  }

  template <size_t kTurn>
  __attribute__((always_inline)) void begin() {
#pragma GCC unroll 4
    for (size_t part = 0; part < kParts; ++part) {
      acc[kTurn][part] = Zmm::load(block.bias + part * kLanes);
    }
  }

  /// Prepares the outputs from kTurn on, and the columns before the last kStride of the first one.
  template <size_t kTurn>
  __attribute__((always_inline)) void start() {
    if constexpr (kTurn < kOpen) {
      begin<kTurn>();
      start<kTurn + 1>();
    }
    if constexpr (kTurn == 0) add_first_columns<0>();
  }

  template <size_t kColumn>
  __attribute__((always_inline)) void add_first_columns() {
    if constexpr (kColumn < kKernel - kStride) {
      add_column<0, kColumn>();
      add_first_columns<kColumn + 1>();
    }
  }

  /// Adds the columns that complete the outputs from kTurn on and stores them; returns whether
  /// there are more.
  template <size_t kTurn>
  __attribute__((always_inline)) bool turn() {
    add_column<kTurn, kKernel - kStride>();
    if constexpr (kStride == 2) add_column<kTurn, kKernel - 1>();
    const __m512i words_0 = Zmm::products(acc[kTurn][0], acc[kTurn][1], block.scale);
    const __m512i words_1 = Zmm::products(acc[kTurn][2], acc[kTurn][3], block.scale + 2 * kLanes);
    if constexpr (kPlain) {
      Zmm::store_first(y, _mm512_packus_epi16(words_0, words_1), block.left);
    } else {
      const __m512i zero_point = block.bytes.constants.zero_point_s16x32;
      block.bytes.store(y, _mm512_adds_epi16(words_0, zero_point),
                        _mm512_adds_epi16(words_1, zero_point), block.left);
    }
    y += block.channels;
    begin<kTurn>();
    if (--outputs == 0) return false;
    if constexpr (kTurn + 1 < kOpen) return turn<kTurn + 1>();
    return true;
  }

  void load_weights() {
    if constexpr (kWeightsInRegisters) {
#pragma GCC unroll 3
      for (size_t s = 0; s < kKernel; ++s) {
#pragma GCC unroll 4
        for (size_t part = 0; part < kParts; ++part) {
          w[s][part] = Zmm::load(block.w + (s * kParts + part) * Zmm::kCr);
        }
      }
    }
  }

  /// Computes output row i.
  __attribute__((always_inline)) void run(size_t i) {
#pragma GCC unroll 5
    for (size_t r = 0; r < kKernel; ++r) {
      rows[r] = block.rows[i * block.stride_h + r * block.dilation_h] + block.channel;
    }
    y = block.y + i * block.y_stride;
    column = 0 - block.pad_left;
    outputs = block.out_width;
    start<0>();
    while (turn<0>()) {
    }
  }

  const SlidingBlock block;
  const uint8_t* zero;
  const uint8_t* rows[kKernel];
  size_t column;
  size_t outputs;
  uint8_t* y;
  __m512i w[kWeightsInRegisters ? kKernel : 1][kParts];
  __m512i acc[kOpen][kParts];
};

template <size_t kKernel, size_t kStride, bool kPlain>
__attribute__((noinline)) void slide_rows(const SlidingBlock& block) {
  Slide<kKernel, kStride, kPlain> slide{block, block.zero + block.channel, {}, 0, 0, nullptr, {},
                                        {}};
  slide.load_weights();
  for (size_t i = 0; i < slide.block.out_rows; ++i) slide.run(i);
}

/// What rows of one block of channels share, in memory.
struct SlideConstants {
  __attribute__((noinline)) explicit SlideConstants(const Requantize& requantize)
      : bytes(requantize) {}

  const Zmm::Bytes bytes;
  alignas(64) int32_t bias[Zmm::kCr];
  alignas(64) float scale[Zmm::kCr];
};

template <size_t kKernel, size_t kStride>
__attribute__((noinline)) void slide(const DepthwiseArgs& args, SlideConstants& constants) {
  const Requantize& requantize = args.requantize;
  const bool plain = requantize.zero_point == 0 && requantize.lo <= 0 && requantize.hi >= UINT8_MAX;
  const auto run_block =
      plain ? slide_rows<kKernel, kStride, true> : slide_rows<kKernel, kStride, false>;
  const int8_t* w = args.w;
  for (size_t channel = 0; channel < args.channels; channel += Zmm::kCr) {
    copy_in_order_of_parts<Zmm>(args.bias + channel, constants.bias);
    copy_in_order_of_parts<Zmm>(requantize.scale + channel, constants.scale);
    run_block({args.channels, args.in_width, args.out_width, args.out_rows, args.stride_h,
               args.dilation_h, args.pad_left, args.rows, args.zero, channel, w, constants.bias,
               constants.scale, constants.bytes, args.y + channel, args.y_stride,
               args.channels - channel});
    w += kKernel * (kKernel <= FourTaps::kKr ? 1 : 2) * FourTapsScratch<Zmm>::kColumnBytes;
  }
}

/// Returns the function for the shapes that slide, null for others.
auto find_slide(const DepthwiseArgs& args) -> void (*)(const DepthwiseArgs&, SlideConstants&) {
  if (args.kernel_h != args.kernel_w || args.dilation_w != 1) return nullptr;
  if (args.kernel_h == 3 && args.stride_w == 1) return slide<3, 1>;
  if (args.kernel_h == 3 && args.stride_w == 2) return slide<3, 2>;
  if (args.kernel_h == 5 && args.stride_w == 2) return slide<5, 2>;
  return nullptr;
}

}  // namespace

void depthwise_u8_s8c_u8_x86_avx512vnni(const DepthwiseArgs& args) {
  const auto slide_all = find_slide(args);
  if (slide_all == nullptr || args.requantize.residual != nullptr || !Zmm::products_fit(args)) {
    return run_four_taps<Zmm>(args);
  }
  SlideConstants constants(args.requantize);
  slide_all(args, constants);
}

}  // namespace edgekit
