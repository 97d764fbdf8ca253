#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/few_columns_x86_avx512vnni.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/store_x86_avx512vnni.h"
#include "kernels/gemm/tile_x86_avx512vnni.h"

// Tiles (tile_x86_avx512vnni.h) cover the product block by block of columns: of panels of 16, 6
// rows by 4 panels or 8 rows by 1 to 3; of panels of 8, 8 rows by 1 to 3. 24 accumulators, 4 of b
// and 1 of a are 29 of the 32 registers. Rows left over take smaller tiles, or overlap the tile
// before; columns left over are masked; k left over meets zero weights.
//
// Where k is short, the epilogue counts: behind the multiplications that it depends on it fills the
// schedulers, and the multipliers idle. There half as many rows are computed at a time, and the
// other 12 registers hold the tile before, whose epilogue follows this one's multiplications. Such
// loops are bound by the number of their instructions.
//
// Weights of 4 bits are multiplied 16 times as large, as the upper half of a byte: so the bias is,
// and multipliers are a sixteenth. Their products are the same floats.

namespace edgekit {
namespace {

constexpr size_t kLine = 64;

/// The most bytes of a block of w that reach the registers fast enough for tiles of half the rows.
constexpr size_t kBlockInCache = 64 * 1024;

size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

/// Returns how many panels the next block takes of those that are left, at most `most`. A panel
/// alone loads more than it multiplies, so the block before it leaves it another.
size_t next_panels(size_t panels, size_t most) {
  return panels == most + 1 ? most - 1 : min_size(panels, most);
}

/// Adds the multipliers of 8 columns from column c of a block on to their vector.
void add_half(const float* scale, size_t c, __m512* both) {
  const __m256 half = _mm256_loadu_ps(scale);
  // The first 8 columns of a vector, and the last ones that have none to share it with.
  if (c % kLanes == 0) *both = _mm512_castps256_ps512(half);
  *both = _mm512_insertf32x8(*both, half, 1);
}

/// The constants of the accumulators and sums of kColumns columns from `column` on.
template <size_t kPanel, int kBits>
void load_constants(const GemmArgs& args, size_t column, size_t columns, Block* block) {
  const int32_t* biases = args.bias + column;
  const float* scales = args.requantize.scale + column;
  const float* shifts = scales;
  if (is_fused(block->call.epilogue)) {
    const FusedRequantize& fused = args.requantize.fused;
    biases = fused.start + column;
    scales = fused.slope + column;
    shifts = fused.shift + column;
  }
  if constexpr (kPanel == kLanes) {
    for (size_t c = 0; c < columns; c += kLanes) {
      const __m512i bias = _mm512_loadu_si512(biases + c);
      const __m512 scale = _mm512_loadu_ps(scales + c);
      block->shift[c / kLanes] = _mm512_loadu_ps(shifts + c);
      block->bias[c / kLanes] = _mm512_slli_epi32(bias, 8 - kBits);
      block->scale[c / kLanes] =
          kBits == 8 ? scale : _mm512_mul_ps(scale, _mm512_set1_ps(1.0f / 16));
    }
    return;
  }
  block->even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  block->odd = _mm512_add_epi32(block->even, _mm512_set1_epi32(1));
  const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  for (size_t c = 0; c < columns; c += kHalfLanes) {
    const __m256i bias = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(biases + c));
    block->bias[c / kHalfLanes] =
        _mm512_maskz_permutexvar_epi32(0x5555, twice, _mm512_castsi256_si512(bias));
    add_half(scales + c, c, &block->scale[c / kLanes]);
    add_half(shifts + c, c, &block->shift[c / kLanes]);
  }
}

/// The block of `count` panels from `panel` on.
template <size_t kPanel, int kBits>
__attribute__((noinline)) Block make_block(const Call& call, size_t panel, size_t count) {
  const GemmArgs& args = call.args;
  const size_t column = panel * kPanel;
  const size_t panels = (args.n + kPanel - 1) / kPanel;
  Block block{{}, {}, {}, find_requantize_bytes(args.requantize), {}, {}, call, nullptr, column,
              0,  0,  0};
  block.w = args.w + panel * call.panel_bytes;
  block.columns = min_size(count * kPanel, args.n - column);
  block.lanes = ~uint64_t{0} >> (kMaxPanels * kLanes - block.columns);
  block.next_lines = min_size(panels - panel - count, kMaxPanels) * call.panel_bytes / kLine;
  load_constants<kPanel, kBits>(args, column, block.columns, &block);
  return block;
}

/// Stores `rows` rows of sums, kMaxPanels * kLanes apart.
__attribute__((noinline)) void store_rows(const Block& block, size_t row, size_t rows) {
  store_accumulators(block.call.args, block.call.accumulators, kMaxPanels * kLanes, row, rows,
                     block.column, block.columns);
}

/// How rows are found.
enum class Access : uint8_t {
  kOneTap,   ///< by strides; a loop over taps that are one costs where k is short
  kTaps,     ///< by strides
  kPointers  ///< by pointers
};

/// Where the rows of a tile lie, in its first tap: by pointers, `taps` apart for each row, or by
/// strides. Copied from GemmArgs, since behind the stores of a tile memory is slow to be read.
template <Access kAccess>
struct Rows {
  const uint8_t* const* pointers;
  const uint8_t* a;
  size_t a_stride;
  size_t taps;
  size_t tap_step;

  __attribute__((always_inline)) Rows(const GemmArgs& args, size_t row)
      : pointers(nullptr),
        a(nullptr),
        a_stride(args.a_stride),
        taps(args.taps),
        tap_step(args.tap_step) {
    if constexpr (kAccess == Access::kPointers) {
      pointers = args.rows + row * args.taps;
    } else {
      a = args.a + row * args.a_stride;
    }
  }

  /// Goes `rows` rows on.
  __attribute__((always_inline)) void advance(size_t rows) {
    if constexpr (kAccess == Access::kPointers) {
      pointers += rows * taps;
    } else {
      a += rows * a_stride;
    }
  }

  /// Finds the rows of tap t.
  template <int kRows>
  __attribute__((always_inline)) void find(size_t t, const uint8_t* (&rows)[kRows]) const {
    if constexpr (kAccess == Access::kPointers) {
      const uint8_t* const* next = pointers + t;
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i, next += taps) rows[i] = *next;
    } else {
      rows[0] = a + t * tap_step;
#pragma GCC unroll 8
      for (int i = 1; i < kRows; ++i) {
        rows[i] = rows[i - 1] + a_stride;
        // One by one: GCC 12 would add vectors of pointers, and keep them on the stack.
        if constexpr (kAccess == Access::kTaps) __asm__("" : "+r"(rows[i]));
      }
    }
  }
};

/// Computes a tile.
template <class S, Access kAccess>
__attribute__((always_inline)) inline void multiply_tile(const Block& block,
                                                         const Rows<kAccess>& where,
                                                         __m512i (&acc)[S::kVectors]) {
  const size_t depth = block.call.steps * S::kStep;
  const size_t panel_bytes = block.call.panel_bytes;
  const int8_t* w = block.w;
  const uint8_t* rows[S::kRows];
  where.find(0, rows);
  load_bias<S>(block, acc);
  for (size_t t = 0;;) {
    for (size_t k = 0; k < depth; k += S::kStep, w += kStepBytes) {
      multiply<S>(acc, rows, k, w, panel_bytes);
    }
    if (kAccess == Access::kOneTap || ++t == where.taps) return;
    where.find(t, rows);
  }
}

/// Computes the tile of kRows rows from `row` on.
template <class S>
__attribute__((noinline)) void run_tile(const Block& block, size_t row) {
  const Call& call = block.call;
  const GemmArgs& args = call.args;
  __m512i acc[S::kVectors];
  if (args.rows != nullptr) {
    multiply_tile<S>(block, Rows<Access::kPointers>(args, row), acc);
  } else {
    multiply_tile<S>(block, Rows<Access::kTaps>(args, row), acc);
  }
  switch (call.epilogue) {
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
      return store_tile<Epilogue::kFloats, S>(block, Place(block, row), acc);
    case Epilogue::kFloatSums:
      return store_tile<Epilogue::kFloatSums, S>(block, Place(block, row), acc);
    case Epilogue::kOther:
#pragma GCC unroll 24
      for (int v = 0; v < S::kVectors; ++v) acc[v] = _mm512_srai_epi32(acc[v], 8 - S::kBits);
      spill_tile<S>(block, acc, call.accumulators);
      return store_rows(block, row, S::kRows);
  }
}

/// Fetches the weights of the next block into the second-level cache, a share at each tile: in a
/// network they come from further away, and the first tile of a block would wait for them.
class Prefetch {
 public:
  /// For a block that takes `tiles` tiles. A few tiles would fetch so much at a time that they wait
  /// themselves: they fetch nothing.
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

/// Computes the first `tiles` tiles of kRows rows, at least one. Each is stored behind the
/// multiplications of the next: the processor does both at once, as long as the addresses of its
/// stores are known early. So they are counted on, not read from memory again.
template <Epilogue kEpilogue, class S, Access kAccess>
__attribute__((noinline)) void run_pipelined(const Block& block, size_t tiles) {
  Rows<kAccess> rows(block.call.args, 0);
  const auto multiply_next = [&](__m512i(&acc)[S::kVectors]) __attribute__((always_inline)) {
    multiply_tile<S>(block, rows, acc);
    rows.advance(S::kRows);
  };
  Place place(block, 0);
  Prefetch prefetch(block, S::kPanels, tiles);
  __m512i even[S::kVectors];
  __m512i odd[S::kVectors];
  multiply_next(even);
  for (;;) {
    prefetch.step();
    if (--tiles == 0) return store_tile<kEpilogue, S>(block, place, even);
    multiply_next(odd);
    store_tile<kEpilogue, S>(block, place, even);
    place.advance(S::kRows);

    prefetch.step();
    if (--tiles == 0) return store_tile<kEpilogue, S>(block, place, odd);
    multiply_next(even);
    store_tile<kEpilogue, S>(block, place, odd);
    place.advance(S::kRows);
  }
}

/// Returns whether registers suffice for a pipeline: sums with a residual, of weights that have to
/// be unpacked, leave none to find several taps with.
template <int kBits>
bool has_pipeline(const GemmArgs& args) {
  const bool one_tap = args.rows == nullptr && args.taps == 1;
  return kBits == 8 || args.requantize.residual == nullptr || one_tap;
}

template <Epilogue kEpilogue, class S>
void run_pipelined(const Block& block, size_t tiles) {
  const GemmArgs& args = block.call.args;
  if constexpr (S::kBits == 8 || kEpilogue != Epilogue::kResidualSums) {
    if (args.rows != nullptr) {
      return run_pipelined<kEpilogue, S, Access::kPointers>(block, tiles);
    }
    if (args.taps != 1) return run_pipelined<kEpilogue, S, Access::kTaps>(block, tiles);
  }
  run_pipelined<kEpilogue, S, Access::kOneTap>(block, tiles);
}

/// The same with FusedRequantize, which weights of 4 bits have none of.
template <class S>
void run_fused(const Block& block, size_t tiles) {
  if constexpr (S::kBits == 8) {
    if (block.call.epilogue == Epilogue::kFused) {
      run_pipelined<Epilogue::kFused, S>(block, tiles);
    } else {
      run_pipelined<Epilogue::kFusedClamped, S>(block, tiles);
    }
  }
}

/// Computes as many rows of a block as a pipeline takes, from the first on, and returns how many.
template <int kPanels, size_t kPanel, int kBits>
size_t run_pipelines(const Block& block) {
  constexpr size_t kRows = kPanels == 1 ? 8 : 12 / kPanels;
  using S = Shape<kRows, kPanels, kPanel, kBits>;
  const Call& call = block.call;
  size_t tiles = call.args.m / kRows;
  // One row alone takes longer than one more in the last tile of 3.
  if (kRows == 3 && call.args.m % kRows == 1 && tiles != 0) --tiles;
  if (tiles == 0 || call.epilogue == Epilogue::kOther || !has_pipeline<kBits>(call.args) ||
      kPanels * call.panel_bytes > kBlockInCache) {
    return 0;
  }
  if (call.epilogue == Epilogue::kResidualSums) {
    run_pipelined<Epilogue::kResidualSums, S>(block, tiles);
  } else if (call.epilogue == Epilogue::kFloats) {
    run_pipelined<Epilogue::kFloats, S>(block, tiles);
  } else if (call.epilogue == Epilogue::kFloatSums) {
    run_pipelined<Epilogue::kFloatSums, S>(block, tiles);
  } else if (is_fused(call.epilogue)) {
    run_fused<S>(block, tiles);
  } else if (saturates(call.args.requantize)) {
    run_pipelined<Epilogue::kSaturated, S>(block, tiles);
  } else {
    run_pipelined<Epilogue::kProducts, S>(block, tiles);
  }
  return tiles * kRows;
}

/// Covers all rows of a block: what pipelines leave in full tiles, then smaller ones, the last of
/// which may overlap.
template <int kPanels, size_t kPanel, int kBits>
void run_block(const Block& block) {
  constexpr int kRows = kPanels == 4 ? 6 : 8;
  const size_t m = block.call.args.m;
  size_t row = run_pipelines<kPanels, kPanel, kBits>(block);
  Prefetch prefetch(block, kPanels, row == 0 ? (m + kRows - 1) / kRows : 0);
  while (row < m) {
    const size_t rest = m - row;
    prefetch.step();
    if (rest >= kRows || (rest > 4 && m >= kRows)) {
      run_tile<Shape<kRows, kPanels, kPanel, kBits>>(block, min_size(row, m - kRows));
      row += kRows;
    } else if (rest >= 4 || (rest == 3 && m >= 4)) {
      run_tile<Shape<4, kPanels, kPanel, kBits>>(block, min_size(row, m - 4));
      row += 4;
    } else if (rest >= 2) {
      run_tile<Shape<2, kPanels, kPanel, kBits>>(block, row);
      row += 2;
    } else {
      run_tile<Shape<1, kPanels, kPanel, kBits>>(block, row);
      row += 1;
    }
  }
}

/// Returns how the tiles of a call are stored. Sums of weights of 4 bits are 16 times as large,
/// which would leave a tiny scale no room.
template <int kBits>
Epilogue find_tile_epilogue(const GemmArgs& args) {
  if (kBits != 8) return find_epilogue(args);
  if (!writes_floats(args)) return find_fused_epilogue(args);
  return args.output == Output::kFloat32 ? Epilogue::kFloats : Epilogue::kFloatSums;
}

/// Covers the product in blocks of at most kMost panels of kPanel columns.
template <size_t kPanel, size_t kMost, int kBits>
__attribute__((always_inline)) inline void run(const GemmArgs& args) {
  constexpr size_t kStep = kStepBytes / kPanel * 8 / kBits;
  alignas(64) int32_t accumulators[kMaxRows * kMaxPanels * kLanes];
  const size_t steps = (args.k + kStep - 1) / kStep;
  const Call call{args, steps, args.taps * steps * kStepBytes, find_tile_epilogue<kBits>(args),
                  accumulators};
  const size_t panels = (args.n + kPanel - 1) / kPanel;
  for (size_t panel = 0; panel < panels;) {
    const size_t count = next_panels(panels - panel, kMost);
    const Block block = make_block<kPanel, kBits>(call, panel, count);
    panel += count;
    switch (count) {
      case 1:
        run_block<1, kPanel, kBits>(block);
        break;
      case 2:
        run_block<2, kPanel, kBits>(block);
        break;
      case 3:
        run_block<3, kPanel, kBits>(block);
        break;
      default:
        if constexpr (kMost == 4) run_block<4, kPanel, kBits>(block);
        break;
    }
  }
}

}  // namespace

void gemm_u8_s8c_u8_6x64c4_x86_avx512vnni(const GemmArgs& args) {
  if (!serve_few_columns(args)) run<16, 4, 8>(args);
}

void gemm_u8_s8c_u8_8x24c8_x86_avx512vnni(const GemmArgs& args) { run<8, 3, 8>(args); }

void gemm_u8_s4c_u8_6x64c4_x86_avx512vnni(const GemmArgs& args) { run<16, 4, 4>(args); }

}  // namespace edgekit
