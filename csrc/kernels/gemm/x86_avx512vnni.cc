#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/gemm/few_columns_x86_avx512vnni.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/store_x86_avx512vnni.h"
#include "kernels/requantize_x86_avx512vnni.h"

// Up to 6 rows by 4 panels of 16 columns, or 8 rows by 1 to 3 panels; a step takes 4 of k:
//
//                 b0      b1      b2      b3         64 bytes of each panel
//   row 0   a0    acc00   acc01   acc02   acc03      a: 4 bytes, broadcast from memory
//   ...
//   row 5   a5    acc50   acc51   acc52   acc53
//
// 24 accumulators, 4 of b and 1 of a are 29 of the 32 registers. Panels left over take tiles of
// their own. Rows left over take smaller tiles, or overlap the tile before; columns left over are
// masked; k left over meets zero weights.
//
// Where k is short, the epilogue counts: behind the multiplications that it depends on it fills the
// schedulers, and the multipliers idle. There half as many rows are computed at a time, and the
// other 12 registers hold the tile before, whose epilogue follows this one's multiplications. Such
// loops are bound by the number of their instructions.

namespace edgekit {
namespace {

constexpr size_t kPanel = 16;
constexpr size_t kKr = 4;
constexpr size_t kStepBytes = kPanel * kKr;
constexpr size_t kMaxPanels = 4;
constexpr size_t kLine = 64;
constexpr size_t kMaxTile = 8 * kMaxPanels * kPanel;

/// The most bytes of a block of w that reach the registers fast enough for tiles of half the rows.
constexpr size_t kBlockInCache = 64 * 1024;

size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

/// acc[c] += sum over 4 of a (u8) * b (s8). The intrinsic makes GCC 12 spill the accumulators.
inline void dot(__m512i& acc_s32x16, __m512i a_u8x64, __m512i b_s8x64) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(acc_s32x16) : "v"(a_u8x64), "v"(b_s8x64));
}

/// Loads 64 bytes. The intrinsic lets GCC 12 load again for every use, as if registers were scarce.
inline __m512i load64(const int8_t* from) {
  __m512i bytes;
  __asm__("vmovdqu64 %1, %0" : "=v"(bytes) : "m"(*reinterpret_cast<const int8_t (*)[64]>(from)));
  return bytes;
}

/// Four bytes of a row in every lane.
inline __m512i broadcast(const uint8_t* a) {
  int32_t bytes = 0;
  std::memcpy(&bytes, a, sizeof(bytes));
  return _mm512_set1_epi32(bytes);
}

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
  __m512i bias[kMaxPanels];
  __m512 scale[kMaxPanels];
  RequantizeBytes bytes;
  const Call& call;
  const int8_t* w;
  size_t column;
  size_t columns;
  __mmask64 lanes;
  /// What the next block reads of w, in lines of 64 bytes; 0 behind the last.
  size_t next_lines;

  /// The block of `count` panels from `panel` on.
  __attribute__((noinline)) Block(const Call& of, size_t panel, size_t count)
      : call(of), w(of.args.w + panel * of.panel_bytes), column(panel * kPanel) {
    const Requantize& requantize = of.args.requantize;
    bytes = find_requantize_bytes(requantize);
    columns = min_size(count * kPanel, call.args.n - column);
    lanes = ~uint64_t{0} >> (kMaxPanels * kPanel - columns);
    const size_t panels = (call.args.n + kPanel - 1) / kPanel;
    const size_t next = min_size(panels - panel - count, kMaxPanels);
    next_lines = next * call.panel_bytes / kLine;
    for (size_t p = 0; p < count; ++p) {
      bias[p] = _mm512_loadu_si512(call.args.bias + column + p * kPanel);
      scale[p] = _mm512_loadu_ps(requantize.scale + column + p * kPanel);
    }
  }
};

/// Stores `rows` rows of accumulators, kMaxPanels panels apart.
__attribute__((noinline)) void store_rows(const Block& block, size_t row, size_t rows) {
  store_accumulators(block.call.args, block.call.accumulators, kMaxPanels * kPanel, row, rows,
                     block.column, block.columns);
}

/// Stores the bytes of one row of a block, at most 16 * kPanels.
template <int kPanels>
inline void store_bytes(const Block& block, uint8_t* y, __m512i bytes) {
  if (__builtin_expect(block.columns < kPanels * kPanel, 0)) {
    _mm512_mask_storeu_epi8(y, block.lanes, bytes);
  } else if constexpr (kPanels == 4) {
    _mm512_storeu_si512(y, bytes);
  } else if constexpr (kPanels == 3) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm512_castsi512_si256(bytes));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + 32), _mm512_extracti32x4_epi32(bytes, 2));
  } else if constexpr (kPanels == 2) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm512_castsi512_si256(bytes));
  } else {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), _mm512_castsi512_si128(bytes));
  }
}

/// How a tile is packed: four vectors at a time, of one row, of two rows by two panels or of four
/// by one.
template <int kRows, int kPanels>
struct Groups {
  static constexpr int kMostRows = kPanels == 1 ? 4 : kPanels == 2 ? 2 : 1;
  static constexpr int kGroupRows = kRows < kMostRows ? kRows : kMostRows;
  static constexpr int kCount = kRows / kGroupRows;
};

/// Where a tile's results belong, and its residual lies.
struct Place {
  uint8_t* y;
  size_t y_stride;
  const uint8_t* residual;
  size_t residual_stride;

  /// The place of the tile that begins at row `row`.
  Place(const Block& block, size_t row)
      : y_stride(block.call.args.y_stride),
        residual_stride(block.call.args.requantize.residual_stride) {
    const GemmArgs& args = block.call.args;
    y = static_cast<uint8_t*>(args.y) + row * y_stride + block.column;
    residual = args.requantize.residual + row * residual_stride + block.column;
  }

  /// Goes `rows` rows on.
  void advance(size_t rows) {
    y += rows * y_stride;
    residual += rows * residual_stride;
  }
};

/// The j-th of the four vectors that are packed together, from row `first` on, an int32 a lane.
/// Vectors that there are not repeat the first, and are not stored.
template <Epilogue kEpilogue, int kRows, int kPanels>
__attribute__((always_inline)) inline __m512i round_vector(const Block& block, const Place& place,
                                                           const __m512i (&acc)[kRows][kPanels],
                                                           int first, int j) {
  const bool there = j < Groups<kRows, kPanels>::kGroupRows * kPanels;
  const int i = there ? j / kPanels : 0;
  const int p = there ? j % kPanels : 0;
  if constexpr (kEpilogue == Epilogue::kProducts) {
    return rounded_product(acc[first + i][p], block.scale[p]);
  } else {
    const size_t c = static_cast<size_t>(p) * kPanel;
    return rounded_sum(block.call.args.requantize, acc[first + i][p], block.scale[p],
                       place.residual + static_cast<size_t>(i) * place.residual_stride + c,
                       static_cast<__mmask16>(block.lanes >> c));
  }
}

/// Requantizes, packs and stores a tile.
template <Epilogue kEpilogue, int kRows, int kPanels>
__attribute__((always_inline)) inline void store_tile(const Block& block, Place place,
                                                      const __m512i (&acc)[kRows][kPanels]) {
  constexpr int kGroupRows = Groups<kRows, kPanels>::kGroupRows;
  const size_t y_stride = place.y_stride;
#pragma GCC unroll 8
  for (int first = 0; first < kRows; first += kGroupRows) {
    const __m512i bytes =
        pack_bytes(block.bytes, round_vector<kEpilogue>(block, place, acc, first, 0),
                   round_vector<kEpilogue>(block, place, acc, first, 1),
                   round_vector<kEpilogue>(block, place, acc, first, 2),
                   round_vector<kEpilogue>(block, place, acc, first, 3));
    store_bytes<kPanels>(block, place.y, bytes);
    if constexpr (kPanels == 2 && kGroupRows == 2) {
      const __m256i second = _mm512_extracti64x4_epi64(bytes, 1);
      store_bytes<kPanels>(block, place.y + y_stride, _mm512_castsi256_si512(second));
    }
    if constexpr (kPanels == 1 && kGroupRows >= 2) {
      const __m128i second = _mm512_extracti32x4_epi32(bytes, 1);
      store_bytes<kPanels>(block, place.y + y_stride, _mm512_castsi128_si512(second));
    }
    if constexpr (kPanels == 1 && kGroupRows == 4) {
      const __m128i third = _mm512_extracti32x4_epi32(bytes, 2);
      const __m128i fourth = _mm512_extracti32x4_epi32(bytes, 3);
      store_bytes<kPanels>(block, place.y + 2 * y_stride, _mm512_castsi128_si512(third));
      store_bytes<kPanels>(block, place.y + 3 * y_stride, _mm512_castsi128_si512(fourth));
    }
    place.advance(kGroupRows);
  }
}

/// Starts every row with the bias.
template <int kRows, int kPanels>
__attribute__((always_inline)) inline void load_bias(const Block& block,
                                                     __m512i (&acc)[kRows][kPanels]) {
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) {
    acc[0][p] = block.bias[p];
#pragma GCC unroll 8
    for (int i = 1; i < kRows; ++i) acc[i][p] = acc[0][p];
  }
}

/// One step: 4 of k of every row, from byte `k` on.
template <int kRows, int kPanels>
__attribute__((always_inline)) inline void multiply(__m512i (&acc)[kRows][kPanels],
                                                    const uint8_t* const (&rows)[kRows], size_t k,
                                                    const int8_t* w, size_t panel_bytes) {
  __m512i b[kPanels];
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) {
    b[p] = load64(w + static_cast<size_t>(p) * panel_bytes);
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
    const __m512i a_i = broadcast(rows[i] + k);
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) dot(acc[i][p], a_i, b[p]);
  }
}

/// Reads the pointers of kRows rows of one tap, `taps` apart.
template <int kRows>
__attribute__((always_inline)) inline void read_rows(const uint8_t* const* a, size_t taps,
                                                     const uint8_t* (&rows)[kRows]) {
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i, a += taps) rows[i] = *a;
}

/// Stores a tile whose first row is `row` as the call's epilogue says.
template <int kRows, int kPanels>
__attribute__((always_inline)) inline void finish_tile(const Block& block, size_t row,
                                                       const __m512i (&acc)[kRows][kPanels]) {
  const Call& call = block.call;
  if (call.epilogue == Epilogue::kProducts) {
    store_tile<Epilogue::kProducts>(block, Place(block, row), acc);
  } else if (call.epilogue == Epilogue::kResidualSums) {
    store_tile<Epilogue::kResidualSums>(block, Place(block, row), acc);
  } else {
    int32_t* accumulators = call.accumulators;
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i, accumulators += kMaxPanels * kPanel) {
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) {
        _mm512_store_si512(accumulators + static_cast<size_t>(p) * kPanel, acc[i][p]);
      }
    }
    store_rows(block, row, kRows);
  }
}

/// Computes rows [row, row + kRows) of a block; row i of tap t lies at `a[i * taps + t]`.
template <int kRows, int kPanels>
__attribute__((noinline)) void tile(const Block& block, const uint8_t* const* a, size_t row) {
  const Call& call = block.call;
  const size_t taps = call.args.taps;
  const size_t depth = call.steps * kKr;
  const size_t panel_bytes = call.panel_bytes;
  const int8_t* w = block.w;
  __m512i acc[kRows][kPanels];
  load_bias(block, acc);
  for (size_t t = 0; t < taps; ++t, ++a) {
    const uint8_t* rows[kRows];
    read_rows(a, taps, rows);
    for (size_t k = 0; k < depth; k += kKr, w += kStepBytes) {
      multiply(acc, rows, k, w, panel_bytes);
    }
  }
  finish_tile(block, row, acc);
}

/// Finds the rows of a tile, whether they are given by a stride or by pointers.
template <int kRows>
class Rows {
 public:
  Rows(const GemmArgs& args, size_t row) {
    if (args.rows != nullptr) {
      a_ = args.rows + row * args.taps;
      return;
    }
    const uint8_t* next = args.a + row * args.a_stride;
    for (int i = 0; i < kRows; ++i, next += args.a_stride) {
      // One by one: as a vector of products they would take longer.
      __asm__("" : "+r"(next));
      strided_[i] = next;
    }
    a_ = strided_;
  }

  /// Row i of tap t lies at `a()[i * taps + t]`.
  const uint8_t* const* a() const { return a_; }

 private:
  const uint8_t* strided_[kRows];
  const uint8_t* const* a_;
};

/// Fetches the weights of the next block into the second-level cache, a share at each tile: in a
/// network they come from further away, and the first tile of a block would wait for them.
class Prefetch {
 public:
  /// For a block of `panels` panels that takes `tiles` tiles. A few tiles would fetch so much at a
  /// time that they wait themselves: they fetch nothing.
  Prefetch(const Block& block, size_t panels, size_t tiles)
      : next_(block.w + panels * block.call.panel_bytes),
        end_(next_ + block.next_lines * kLine),
        share_(tiles < kLeastTiles ? 0 : (block.next_lines + tiles - 1) / tiles * kLine) {}

  __attribute__((always_inline)) void step() {
    const int8_t* const stop = next_ + min_size(share_, static_cast<size_t>(end_ - next_));
    for (; next_ != stop; next_ += kLine) _mm_prefetch(next_, _MM_HINT_T1);
  }

 private:
  static constexpr size_t kLeastTiles = 8;

  const int8_t* next_;
  const int8_t* end_;
  size_t share_;
};

/// Computes a tile whose rows lie side by side from `a` on.
template <int kRows, int kPanels>
__attribute__((always_inline)) inline void multiply_tile(const Block& block, const uint8_t* a,
                                                         size_t a_stride, size_t depth,
                                                         __m512i (&acc)[kRows][kPanels]) {
  const size_t panel_bytes = block.call.panel_bytes;
  const int8_t* w = block.w;
  const uint8_t* rows[kRows];
  rows[0] = a;
#pragma GCC unroll 8
  for (int i = 1; i < kRows; ++i) rows[i] = rows[i - 1] + a_stride;
  load_bias(block, acc);
  for (size_t k = 0; k < depth; k += kKr, w += kStepBytes) {
    multiply(acc, rows, k, w, panel_bytes);
  }
}

/// Computes the first `tiles` tiles of kRows rows, at least one, without row pointers. Each is
/// stored behind the multiplications of the next: the processor does both at once, as long as the
/// addresses of its stores are known early. So they are counted on, not read from memory again.
template <Epilogue kEpilogue, int kRows, int kPanels>
__attribute__((noinline)) void run_pipelined(const Block& block, size_t tiles) {
  const uint8_t* a = block.call.args.a;
  const size_t a_stride = block.call.args.a_stride;
  const size_t depth = block.call.steps * kKr;
  Place place(block, 0);
  Prefetch prefetch(block, kPanels, tiles);
  __m512i even[kRows][kPanels];
  __m512i odd[kRows][kPanels];
  multiply_tile(block, a, a_stride, depth, even);
  for (;;) {
    prefetch.step();
    if (--tiles == 0) return store_tile<kEpilogue>(block, place, even);
    a += kRows * a_stride;
    multiply_tile(block, a, a_stride, depth, odd);
    store_tile<kEpilogue>(block, place, even);
    place.advance(kRows);

    prefetch.step();
    if (--tiles == 0) return store_tile<kEpilogue>(block, place, odd);
    a += kRows * a_stride;
    multiply_tile(block, a, a_stride, depth, even);
    store_tile<kEpilogue>(block, place, odd);
    place.advance(kRows);
  }
}

/// Computes the tile of kRows rows from `row` on.
template <int kRows, int kPanels>
void run_tile(const Block& block, size_t row) {
  tile<kRows, kPanels>(block, Rows<kRows>(block.call.args, row).a(), row);
}

/// Computes as many rows of a block as a pipeline takes, from the first on, and returns how many.
/// Row pointers mean several taps: k is long, and the registers for them are lacking.
template <int kPanels>
size_t run_pipelines(const Block& block) {
  constexpr size_t kRows = kPanels == 1 ? 8 : 12 / kPanels;
  const Call& call = block.call;
  size_t tiles = call.args.m / kRows;
  // One row alone takes longer than one more in the last tile of 3.
  if (kRows == 3 && call.args.m % kRows == 1 && tiles != 0) --tiles;
  if (tiles == 0 || call.args.rows != nullptr || kPanels * call.panel_bytes > kBlockInCache) {
    return 0;
  }
  switch (call.epilogue) {
    case Epilogue::kProducts:
      run_pipelined<Epilogue::kProducts, kRows, kPanels>(block, tiles);
      break;
    case Epilogue::kResidualSums:
      run_pipelined<Epilogue::kResidualSums, kRows, kPanels>(block, tiles);
      break;
    case Epilogue::kOther:
      return 0;
  }
  return tiles * kRows;
}

/// Covers all rows of a block: what pipelines leave in full tiles, then smaller ones, the last of
/// which may overlap.
template <int kPanels>
void run_block(const Block& block) {
  constexpr int kRows = kPanels == 4 ? 6 : 8;
  const size_t m = block.call.args.m;
  size_t row = run_pipelines<kPanels>(block);
  Prefetch prefetch(block, kPanels, row == 0 ? (m + kRows - 1) / kRows : 0);
  while (row < m) {
    const size_t rest = m - row;
    prefetch.step();
    if (rest >= kRows || (rest > 4 && m >= kRows)) {
      run_tile<kRows, kPanels>(block, min_size(row, m - kRows));
      row += kRows;
    } else if (rest >= 4 || (rest == 3 && m >= 4)) {
      run_tile<4, kPanels>(block, min_size(row, m - 4));
      row += 4;
    } else if (rest >= 2) {
      run_tile<2, kPanels>(block, row);
      row += 2;
    } else {
      run_tile<1, kPanels>(block, row);
      row += 1;
    }
  }
}

}  // namespace

void gemm_u8_s8c_u8_6x64c4_x86_avx512vnni(const GemmArgs& args) {
  if (serve_few_columns(args)) return;
  alignas(64) int32_t accumulators[kMaxTile];
  const size_t steps = (args.k + kKr - 1) / kKr;
  const Call call{args, steps, args.taps * steps * kStepBytes, find_epilogue(args), accumulators};
  const size_t panels = (args.n + kPanel - 1) / kPanel;
  for (size_t panel = 0; panel < panels;) {
    const size_t count = min_size(panels - panel, kMaxPanels);
    const Block block(call, panel, count);
    switch (count) {
      case 1:
        run_block<1>(block);
        break;
      case 2:
        run_block<2>(block);
        break;
      case 3:
        run_block<3>(block);
        break;
      default:
        run_block<4>(block);
        break;
    }
    panel += count;
  }
}

}  // namespace edgekit
