#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/store_x86_avx512vnni.h"
#include "kernels/gemm/tile_x86_avx512vnni.h"

// Blocks of 32 columns by 4 of k: two registers, which all rows of a tile (tile_x86_avx512vnni.h)
// take from there.
//
//   row 0    a0     acc00    acc01        a: 4 bytes at the block's step, broadcast from memory
//   ...
//   row 11   a11    acc110   acc111
//
// 24 accumulators, 2 of b and 1 of a. Mostly tiles have half of these accumulators, and each is
// stored behind the multiplications of the next. Rows are taken as many at a time as stay in the
// nearest cache, while all panels pass by: each panel reads other parts of them. Where half of the
// last panel's columns are padding, tiles have one register a row.

namespace edgekit {
namespace {

constexpr size_t kKr = 4;
constexpr size_t kColumns = 2 * kLanes;
constexpr size_t kBlockBytes = kColumns * kKr;
constexpr int kTallRows = 12;
/// Rows of a tile in a pipeline: half of the accumulators, and fewer where sums with a residual
/// leave too few registers.
template <Epilogue kEpilogue, int kVectors>
constexpr int kPipelineRows = kEpilogue == Epilogue::kResidualSums ? 6 : kTallRows / kVectors;

/// Rows of a tile that is requantized in one operation.
constexpr int kLineRows = 12;

/// What a panel reads and writes: rows of a, and a line of each row of y.
constexpr size_t kLine = 64;

/// Bytes of these that are taken at a time: what the nearest cache holds.
constexpr size_t kRowBytes = 48 * 1024;

/// So many blocks of a panel stay in the nearest cache, where tiles of half the rows read them
/// twice as often.
constexpr size_t kBlocksInCache = 256;

/// Of kVectors registers of columns a row.
template <int kRowCount, int kVectors>
using Tile = Shape<kRowCount, kVectors, kLanes, 8>;

size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

/// The blocks of a panel and tap.
struct List {
  const uint16_t* step;
  const uint16_t* end;
  const int8_t* w;

  __attribute__((always_inline)) List(const GemmArgs& args, const uint32_t* starts)
      : step(args.block_steps + starts[0]),
        end(args.block_steps + starts[1]),
        w(args.w + starts[0] * kBlockBytes) {}
};

/// A panel's columns and its lists.
struct Panel {
  Block block;
  const uint32_t* starts;
};

/// Loads the columns of a block that a tile has.
template <class S>
__attribute__((always_inline)) inline void load_block(const int8_t* w, __m512i (&b)[S::kPanels]) {
#pragma GCC unroll 2
  for (int p = 0; p < S::kPanels; ++p) b[p] = load64(w + static_cast<size_t>(p) * kStepBytes);
}

/// Adds the products of a list with rows `stride` apart.
template <class S>
__attribute__((always_inline)) inline void multiply_rows(List list, const uint8_t* a, size_t stride,
                                                         __m512i (&acc)[S::kVectors]) {
  constexpr int kTogether = 3;
  const size_t together = kTogether * stride;
  for (; list.step != list.end; ++list.step, list.w += kBlockBytes) {
    const uint8_t* at = a + *list.step * kKr;
    __m512i b[S::kPanels];
    load_block<S>(list.w, b);
#pragma GCC unroll 12
    for (int i = 0; i < S::kRows; ++i) {
      const __m512i a_i = broadcast<kKr>(at + static_cast<size_t>(i % kTogether) * stride);
#pragma GCC unroll 2
      for (int p = 0; p < S::kPanels; ++p) dot(acc[S::at(i, p)], a_i, b[p]);
      if (i % kTogether == kTogether - 1) {
        at += together;
        // An address each would take more registers than there are.
        __asm__("" : "+r"(at));
      }
    }
  }
}

/// The same for rows anywhere.
template <class S>
__attribute__((always_inline)) inline void multiply_pointers(List list,
                                                             const uint8_t* const* pointers,
                                                             size_t taps,
                                                             __m512i (&acc)[S::kVectors]) {
  const uint8_t* rows[S::kRows];
#pragma GCC unroll 12
  for (int i = 0; i < S::kRows; ++i) rows[i] = pointers[static_cast<size_t>(i) * taps];
  for (; list.step != list.end; ++list.step, list.w += kBlockBytes) {
    const size_t k = *list.step * kKr;
    __m512i b[S::kPanels];
    load_block<S>(list.w, b);
#pragma GCC unroll 12
    for (int i = 0; i < S::kRows; ++i) {
      const __m512i a_i = broadcast<kKr>(rows[i] + k);
#pragma GCC unroll 2
      for (int p = 0; p < S::kPanels; ++p) dot(acc[S::at(i, p)], a_i, b[p]);
    }
  }
}

/// The same for one row, in four chains, which hide the latency of a multiply.
template <int kVectors>
__attribute__((always_inline)) inline void multiply_row(List list, const uint8_t* row,
                                                        __m512i (&acc)[kVectors]) {
  constexpr int kChains = 4;
  __m512i chains[kChains * kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kChains * kVectors; ++i) chains[i] = _mm512_setzero_si512();
  for (; list.end - list.step >= kChains; list.step += kChains, list.w += kChains * kBlockBytes) {
#pragma GCC unroll 8
    for (int i = 0; i < kChains * kVectors; ++i) {
      const __m512i a = broadcast<kKr>(row + list.step[i / kVectors] * kKr);
      const size_t at = static_cast<size_t>(i / kVectors) * kBlockBytes;
      dot(chains[i], a, load64(list.w + at + static_cast<size_t>(i % kVectors) * kStepBytes));
    }
  }
  for (; list.step != list.end; ++list.step, list.w += kBlockBytes) {
    const __m512i a = broadcast<kKr>(row + *list.step * kKr);
#pragma GCC unroll 2
    for (int p = 0; p < kVectors; ++p) {
      dot(acc[p], a, load64(list.w + static_cast<size_t>(p) * kStepBytes));
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kChains * kVectors; ++i) {
    acc[i % kVectors] = _mm512_add_epi32(acc[i % kVectors], chains[i]);
  }
}

/// Multiplies tile by tile with the blocks of a panel. Copied from GemmArgs, since behind the
/// stores of a tile memory is slow to be read.
template <bool kPointers>
class Multiplier;

/// Rows a stride apart.
template <>
class Multiplier<false> {
 public:
  __attribute__((always_inline)) Multiplier(const Panel& panel, size_t row)
      : list_(panel.block.call.args, panel.starts),
        stride_(panel.block.call.args.a_stride),
        a_(panel.block.call.args.a + row * stride_) {}

  template <class S>
  __attribute__((always_inline)) void multiply(__m512i (&acc)[S::kVectors]) const {
    if constexpr (S::kRows == 1) {
      multiply_row<S::kVectors>(list_, a_, acc);
    } else {
      multiply_rows<S>(list_, a_, stride_, acc);
    }
  }

  /// Goes `rows` rows on.
  __attribute__((always_inline)) void advance(size_t rows) { a_ += rows * stride_; }

 private:
  List list_;
  size_t stride_;
  const uint8_t* a_;
};

/// Rows anywhere, in each tap.
template <>
class Multiplier<true> {
 public:
  __attribute__((always_inline)) Multiplier(const Panel& panel, size_t row)
      : args_(panel.block.call.args),
        starts_(panel.starts),
        taps_(args_.taps),
        rows_(args_.rows + row * taps_) {}

  template <class S>
  __attribute__((always_inline)) void multiply(__m512i (&acc)[S::kVectors]) const {
    for (size_t t = 0; t < taps_; ++t) {
      multiply_pointers<S>(List(args_, starts_ + t), rows_ + t, taps_, acc);
    }
  }

 private:
  const GemmArgs& args_;
  const uint32_t* starts_;
  size_t taps_;
  const uint8_t* const* rows_;
};

/// Stores rows of sums, kMaxPanels * kLanes apart.
__attribute__((noinline)) void store_rows(const Block& block, size_t row, size_t rows) {
  store_accumulators(block.call.args, block.call.accumulators, kMaxPanels * kLanes, row, rows,
                     block.column, block.columns);
}

/// Computes the tile of kRows rows from `row` on.
template <class S, bool kPointers>
__attribute__((noinline)) void run_tile(const Panel& panel, size_t row) {
  const Block& block = panel.block;
  __m512i acc[S::kVectors];
  load_bias<S>(block, acc);
  Multiplier<kPointers>(panel, row).template multiply<S>(acc);
  switch (block.call.epilogue) {
    case Epilogue::kProducts:
    case Epilogue::kSaturated:
    case Epilogue::kUnclamped:
      return store_tile<Epilogue::kProducts, S>(block, Place(block, row), acc);
    case Epilogue::kFused:
    case Epilogue::kFusedClamped:
      return store_tile<Epilogue::kFusedClamped, S>(block, Place(block, row), acc);
    case Epilogue::kResidualSums:
      return store_tile<Epilogue::kResidualSums, S>(block, Place(block, row), acc);
    case Epilogue::kFloats:
    case Epilogue::kFloatSums:
    case Epilogue::kOther:
      spill_tile<S>(block, acc, block.call.accumulators);
      return store_rows(block, row, S::kRows);
  }
}

/// Computes `tiles` tiles, at least one, from `row` on: each is stored behind the multiplications
/// of the next.
template <Epilogue kEpilogue, int kVectors>
__attribute__((noinline)) void run_pipeline(const Panel& panel, size_t row, size_t tiles) {
  using S = Tile<kPipelineRows<kEpilogue, kVectors>, kVectors>;
  const Block& block = panel.block;
  Multiplier<false> multiplier(panel, row);
  Place place(block, row);
  __m512i even[S::kVectors];
  __m512i odd[S::kVectors];
  const auto multiply_next = [&](__m512i(&acc)[S::kVectors]) __attribute__((always_inline)) {
    load_bias<S>(block, acc);
    multiplier.multiply<S>(acc);
    multiplier.advance(S::kRows);
  };
  const auto next_place = [&]() __attribute__((always_inline)) {
    place.advance(S::kRows);
    // GCC 12 would hold the addresses of two tiles, more than there are registers.
    __asm__("" : "+r"(place.y));
  };
  multiply_next(even);
  for (;;) {
    if (--tiles == 0) return store_tile<kEpilogue, S>(block, place, even);
    multiply_next(odd);
    store_tile<kEpilogue, S>(block, place, even);
    next_place();

    if (--tiles == 0) return store_tile<kEpilogue, S>(block, place, odd);
    multiply_next(even);
    store_tile<kEpilogue, S>(block, place, odd);
    next_place();
  }
}

/// The constants of FusedRequantize for a whole panel, which a pipeline holds in registers: read
/// anew for every row, they would take more loads than the products.
struct Line {
  __m512 slope[2];
  __m512 shift[2];
  __m512i order;

  __attribute__((always_inline)) explicit Line(const Block& block)
      : slope{block.scale[0], block.scale[1]},
        shift{block.shift[0], block.shift[1]},
        order(block.bytes.order) {}

  /// Keeps GCC 12 from reading them again.
  __attribute__((always_inline)) void hold() {
    __asm__("" : "+v"(slope[0]), "+v"(slope[1]), "+v"(shift[0]), "+v"(shift[1]), "+v"(order));
  }

  __attribute__((always_inline)) __m512i product(__m512i acc_s32x16, int p) const {
    return fused_product(acc_s32x16, slope[p], shift[p]);
  }
};

/// Stores two rows of a whole panel at a time.
template <bool kClamped, class S>
__attribute__((always_inline)) inline void store_lines(const Block& block, const Line& line,
                                                       uint8_t* y, size_t y_stride,
                                                       const __m512i (&acc)[S::kVectors]) {
#pragma GCC unroll 12
  for (int i = 0; i < S::kRows; i += 2) {
    const __m512i first =
        _mm512_packus_epi16(line.product(acc[S::at(i, 0)], 0), line.product(acc[S::at(i, 1)], 1));
    const __m512i second = _mm512_packus_epi16(line.product(acc[S::at(i + 1, 0)], 0),
                                               line.product(acc[S::at(i + 1, 1)], 1));
    __m512i bytes = _mm512_packus_epi16(first, second);
    if constexpr (kClamped) {
      bytes = _mm512_min_epu8(_mm512_max_epu8(bytes, block.bytes.lowest_u8x64),
                              block.bytes.highest_u8x64);
    }
    bytes = _mm512_permutexvar_epi32(line.order, bytes);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm512_castsi512_si256(bytes));
    y += y_stride;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm512_extracti64x4_epi64(bytes, 1));
    y += y_stride;
  }
}

/// Computes `tiles` tiles, at least one, of a whole panel from `row` on, as run_pipeline() does.
template <bool kClamped>
__attribute__((noinline)) void run_lines(const Panel& panel, size_t row, size_t tiles) {
  using S = Tile<kLineRows, 2>;
  const Block& block = panel.block;
  Multiplier<false> multiplier(panel, row);
  const size_t y_stride = block.call.args.y_stride;
  uint8_t* y = static_cast<uint8_t*>(block.call.args.y) + row * y_stride + block.column;
  Line line(block);
  for (; tiles != 0; --tiles) {
    __m512i acc[S::kVectors];
    load_bias<S>(block, acc);
    multiplier.multiply<S>(acc);
    multiplier.advance(S::kRows);
    line.hold();
    store_lines<kClamped, S>(block, line, y, y_stride, acc);
    y += S::kRows * y_stride;
  }
}

/// Computes the whole tiles of rows [row, end), and returns where they end.
template <Epilogue kEpilogue, int kVectors>
size_t run_whole_tiles(const Panel& panel, size_t row, size_t end) {
  constexpr size_t kRows = kPipelineRows<kEpilogue, kVectors>;
  const size_t tiles = (end - row) / kRows;
  if (tiles != 0) run_pipeline<kEpilogue, kVectors>(panel, row, tiles);
  return row + tiles * kRows;
}

/// The same for any epilogue; nothing where there is no pipeline for it.
template <int kVectors>
size_t run_pipelines(const Panel& panel, size_t row, size_t end) {
  const Call& call = panel.block.call;
  const bool in_cache = panel.starts[1] - panel.starts[0] <= kBlocksInCache;
  if (!in_cache || call.epilogue == Epilogue::kOther) return row;
  if (call.epilogue == Epilogue::kResidualSums) {
    return run_whole_tiles<Epilogue::kResidualSums, kVectors>(panel, row, end);
  }
  if (kVectors == 2 && is_fused(call.epilogue) && panel.block.columns == kColumns) {
    const size_t tiles = (end - row) / kLineRows;
    if (tiles == 0) return row;
    if (call.epilogue == Epilogue::kFused) {
      run_lines<false>(panel, row, tiles);
    } else {
      run_lines<true>(panel, row, tiles);
    }
    return row + tiles * kLineRows;
  }
  if (call.epilogue == Epilogue::kFused) {
    return run_whole_tiles<Epilogue::kFused, kVectors>(panel, row, end);
  }
  if (call.epilogue == Epilogue::kFusedClamped) {
    return run_whole_tiles<Epilogue::kFusedClamped, kVectors>(panel, row, end);
  }
  if (saturates(call.args.requantize)) {
    return run_whole_tiles<Epilogue::kSaturated, kVectors>(panel, row, end);
  }
  if (spans_bytes(call.args.requantize)) {
    return run_whole_tiles<Epilogue::kUnclamped, kVectors>(panel, row, end);
  }
  return run_whole_tiles<Epilogue::kProducts, kVectors>(panel, row, end);
}

/// Computes rows [row, end) of a panel: full tiles, then smaller ones, which may overlap those
/// before.
template <bool kPointers, int kVectors>
void run_panel(const Panel& panel, size_t row, size_t end) {
  if constexpr (!kPointers) row = run_pipelines<kVectors>(panel, row, end);
  while (row < end) {
    const size_t rest = end - row;
    if (rest >= kTallRows || (rest > 6 && end >= kTallRows)) {
      run_tile<Tile<kTallRows, kVectors>, kPointers>(panel, min_size(row, end - kTallRows));
      row += kTallRows;
    } else if (rest >= 6 || (rest > 3 && end >= 6)) {
      run_tile<Tile<6, kVectors>, kPointers>(panel, min_size(row, end - 6));
      row += 6;
    } else if (rest >= 3 || (rest == 2 && end >= 3)) {
      run_tile<Tile<3, kVectors>, kPointers>(panel, min_size(row, end - 3));
      row += 3;
    } else {
      run_tile<Tile<1, kVectors>, kPointers>(panel, row);
      row += 1;
    }
  }
}

/// Half of the last panel's columns may be padding.
template <bool kPointers>
void run_columns(const Panel& panel, size_t row, size_t end) {
  if (panel.block.columns <= kLanes) {
    run_panel<kPointers, 1>(panel, row, end);
  } else {
    run_panel<kPointers, 2>(panel, row, end);
  }
}

__attribute__((noinline)) Panel make_panel(const Call& call, size_t index) {
  const GemmArgs& args = call.args;
  const size_t column = index * kColumns;
  Panel panel{
      {{}, {}, {}, find_requantize_bytes(args.requantize), {}, {}, call, nullptr, column, 0, 0, 0},
      args.block_starts + index * args.taps};
  Block& block = panel.block;
  block.columns = min_size(kColumns, args.n - column);
  block.lanes = ~uint64_t{0} >> (kMaxPanels * kLanes - block.columns);
  for (size_t v = 0; v < kColumns / kLanes; ++v) {
    const size_t c = column + v * kLanes;
    const FusedRequantize& fused = args.requantize.fused;
    const bool is_line = is_fused(call.epilogue);
    block.bias[v] = _mm512_loadu_si512((is_line ? fused.start : args.bias) + c);
    block.scale[v] = _mm512_loadu_ps((is_line ? fused.slope : args.requantize.scale) + c);
    if (is_line) block.shift[v] = _mm512_loadu_ps(fused.shift + c);
  }
  return panel;
}

/// How many rows are taken at a time, whole tiles.
size_t rows_together(const GemmArgs& args) {
  const size_t bytes = args.taps * args.k + kLine;
  return kTallRows * (bytes * kTallRows > kRowBytes ? 1 : kRowBytes / (bytes * kTallRows));
}

template <bool kPointers>
void run(const GemmArgs& args) {
  alignas(64) int32_t accumulators[kTallRows * kMaxPanels * kLanes];
  const Call call{args, 0, 0, find_fused_epilogue(args), accumulators};
  const size_t together = rows_together(args);
  for (size_t row = 0; row < args.m;) {
    // What would be left over joins the last rows.
    const size_t end = args.m - row < together + kTallRows ? args.m : row + together;
    for (size_t panel = 0; panel * kColumns < args.n; ++panel) {
      run_columns<kPointers>(make_panel(call, panel), row, end);
    }
    row = end;
  }
}

}  // namespace

void sparse_gemm_u8_s8c_u8_12x32c4_x86_avx512vnni(const GemmArgs& args) {
  if (args.rows != nullptr) {
    run<true>(args);
  } else {
    run<false>(args);
  }
}

}  // namespace edgekit
