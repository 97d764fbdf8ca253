#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/store_x86_avx512vnni.h"
#include "kernels/requantize_x86_avx512vnni.h"

// 32 rows by 2 panels of 16 columns; a chunk takes up to 64 of k:
//
//                    tmm6: b0    tmm7: b1      up to 16 x 4 of k by 16 columns, as they are packed
//   tmm4: a0         tmm0        tmm1          a: 16 rows, loaded in place by their stride
//   tmm5: a1         tmm2        tmm3
//
// k is cut into chunks that differ by 4 at most. Where they do differ, tmm4 and tmm6 serve the wide
// ones and tmm5 and tmm7 the narrow ones, each for both rows and both panels in turn. Rows left
// over take tiles of 16 rows, then of as many as there are.
//
// Accumulators start with the bias, a load whose rows are all the same. A finished block waits in
// memory, and is requantized between the multiplications of the next. Rows given by pointers are
// copied side by side, chunk by chunk: the first 1024 bytes of a row once for all columns.

namespace edgekit {
namespace {

constexpr size_t kTile = 16;
constexpr size_t kBlock = 2 * kTile;
constexpr size_t kKr = 4;
constexpr size_t kStepBytes = kTile * kKr;
constexpr size_t kMostSteps = 16;
constexpr size_t kChunkBytes = kMostSteps * kKr;

/// The bytes of weights that pass by all rows before the next ones do: they stay in the
/// second-level cache.
constexpr size_t kWeightsInCache = 1024 * 1024;

/// Chunks of a row that are kept after they were copied from row pointers.
constexpr size_t kKept = 16;

size_t min_size(size_t a, size_t b) { return a < b ? a : b; }
size_t max_size(size_t a, size_t b) { return a > b ? a : b; }

/// The operand of LDTILECFG (Intel SDM volume 2A, LDTILECFG).
struct alignas(64) TileConfig {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64, "the instruction reads 64 bytes");

// The intrinsics take tiles as literals and tell the compiler nothing of the memory that they read.

void load_config(const TileConfig& config) {
  __asm__ volatile("ldtilecfg %0" ::"m"(config) : "memory");
}

/// Forgets tiles and configuration: a context switch need not save them.
void release_tiles() { __asm__ volatile("tilerelease" ::: "memory"); }

template <int kTo>
inline void load_tile(const void* rows, size_t stride) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(stride), "i"(kTo) : "memory");
}

template <int kFrom>
inline void store_tile(int32_t* rows, size_t stride) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(rows), "r"(stride), "i"(kFrom)
                   : "memory");
}

/// acc += a (u8) * b (s8).
template <int kAcc, int kA, int kB>
inline void multiply_tile() {
  __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kAcc), "i"(kA), "i"(kB));
}

/// How the steps (4 of k) of a tap are cut: `wide` chunks of `wide_steps`, then narrow ones of one
/// step less.
struct Cut {
  size_t chunks;
  size_t wide;
  size_t wide_steps;

  explicit Cut(size_t steps)
      : chunks((steps + kMostSteps - 1) / kMostSteps),
        wide(chunks == 0 ? 0 : steps % chunks),
        wide_steps(chunks == 0 ? 0 : steps / chunks) {
    if (wide == 0) {
      wide = chunks;
    } else {
      ++wide_steps;
    }
  }

  bool even() const { return wide == chunks; }
  size_t steps(size_t chunk) const { return chunk < wide ? wide_steps : wide_steps - 1; }
};

/// Loads the configuration for tiles of `rows` rows.
void configure(const Cut& cut, size_t rows) {
  TileConfig config = {};
  config.palette = 1;
  const auto set = [&](size_t tile, size_t tile_rows, size_t row_bytes) {
    config.rows[tile] = static_cast<uint8_t>(row_bytes == 0 ? 0 : tile_rows);
    config.row_bytes[tile] = static_cast<uint16_t>(tile_rows == 0 ? 0 : row_bytes);
  };
  const size_t other_steps = cut.even() ? cut.wide_steps : cut.wide_steps - 1;
  for (size_t acc = 0; acc < 4; ++acc) set(acc, rows, kTile * sizeof(int32_t));
  set(4, rows, cut.wide_steps * kKr);
  set(5, rows, other_steps * kKr);
  set(6, cut.wide_steps, kStepBytes);
  set(7, other_steps, kStepBytes);
  load_config(config);
}

/// What all blocks of a call share.
struct Call {
  const GemmArgs& args;
  Cut cut;
  size_t tap_bytes;
  size_t panel_bytes;
  Epilogue epilogue;
  RequantizeBytes bytes;
};

/// The block whose accumulators wait in memory to be stored, kBlock of them a row.
class Waiting {
 public:
  explicit Waiting(const Call& call) : call_(call) {}

  int32_t* accumulators() { return accumulators_; }

  /// Says which block the accumulators are of; the one before is stored by now.
  void set(size_t row, size_t rows, size_t column, size_t columns) {
    const GemmArgs& args = call_.args;
    next_ = 0;
    row_ = row;
    rows_ = rows;
    column_ = column;
    columns_ = columns;
    lanes_ = static_cast<__mmask32>((uint64_t{1} << columns) - 1);
    y_ = static_cast<uint8_t*>(args.y) + row * args.y_stride + column;
    residual_ = args.requantize.residual;
    if (residual_ != nullptr) residual_ += row * args.requantize.residual_stride + column;
  }

  /// Stores up to `count` pairs of rows more.
  void store(size_t count) {
    if (next_ == rows_) return;
    const size_t end = min_size(next_ + 2 * count, rows_);
    switch (call_.epilogue) {
      case Epilogue::kProducts:
      case Epilogue::kSaturated:
      case Epilogue::kUnclamped:
      case Epilogue::kFused:
      case Epilogue::kFusedClamped:
        for (; next_ < end; next_ += 2) store_pair<Epilogue::kProducts>();
        break;
      case Epilogue::kResidualSums:
        for (; next_ < end; next_ += 2) store_pair<Epilogue::kResidualSums>();
        break;
      case Epilogue::kFloats:
      case Epilogue::kFloatSums:
      case Epilogue::kOther:
        store_accumulators(call_.args, accumulators_ + next_ * kBlock, kBlock, row_ + next_,
                           end - next_, column_, columns_);
        break;
    }
    next_ = end;
  }

  /// Stores all that is left.
  void finish() { store(kTile); }

 private:
  template <Epilogue kEpilogue>
  __m512i round(size_t row, size_t panel, const uint8_t* residual) const {
    const size_t c = panel * kTile;
    const __m512i acc = _mm512_load_si512(accumulators_ + row * kBlock + c);
    const __m512 scale = _mm512_loadu_ps(call_.args.requantize.scale + column_ + c);
    if constexpr (kEpilogue == Epilogue::kProducts) {
      return rounded_product(acc, scale);
    } else {
      const __mmask16 lanes = static_cast<__mmask16>(lanes_ >> c);
      return rounded_sum(call_.args.requantize, acc, scale,
                         _mm_maskz_loadu_epi8(lanes, residual + c));
    }
  }

  template <Epilogue kEpilogue>
  void store_pair() {
    // A panel or a row that there is not repeats the one before, and is not stored.
    const size_t panel = columns_ > kTile ? 1 : 0;
    const bool two = next_ + 1 < rows_;
    const size_t second = two ? next_ + 1 : next_;
    const uint8_t* other = residual_;
    if constexpr (kEpilogue == Epilogue::kResidualSums) {
      other += two ? call_.args.requantize.residual_stride : 0;
    }
    const __m512i bytes =
        pack_bytes(call_.bytes, round<kEpilogue>(next_, 0, residual_),
                   round<kEpilogue>(next_, panel, residual_), round<kEpilogue>(second, 0, other),
                   round<kEpilogue>(second, panel, other));
    const size_t y_stride = call_.args.y_stride;
    store_row(y_, _mm512_castsi512_si256(bytes));
    if (two) store_row(y_ + y_stride, _mm512_extracti64x4_epi64(bytes, 1));
    y_ += 2 * y_stride;
    if constexpr (kEpilogue == Epilogue::kResidualSums) {
      residual_ += 2 * call_.args.requantize.residual_stride;
    }
  }

  void store_row(uint8_t* y, __m256i bytes) const {
    if (columns_ == kBlock) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), bytes);
    } else {
      _mm256_mask_storeu_epi8(y, lanes_, bytes);
    }
  }

  const Call& call_;
  size_t next_ = 0;
  size_t row_ = 0;
  size_t rows_ = 0;
  size_t column_ = 0;
  size_t columns_ = 0;
  __mmask32 lanes_ = 0;
  uint8_t* y_ = nullptr;
  const uint8_t* residual_ = nullptr;
  alignas(64) int32_t accumulators_[kBlock * kBlock];
};

/// Where the rows of a chunk lie: in place.
class StridedRows {
 public:
  explicit StridedRows(const GemmArgs& args) : first_(args.a), stride_(args.a_stride) {}

  void take(size_t row, size_t /*rows*/) { a_ = first_ + row * stride_; }
  void end_columns() {}
  size_t stride() const { return stride_; }

  /// Returns row 0 of the chunk from byte k of tap `tap` on.
  const uint8_t* find(size_t /*tap*/, size_t k, size_t /*index*/) const { return a_ + k; }

 private:
  const uint8_t* first_;
  size_t stride_;
  const uint8_t* a_ = nullptr;
};

/// Where the rows of a chunk lie: side by side in memory of its own, copied from row pointers.
class CopiedRows {
 public:
  explicit CopiedRows(const GemmArgs& args) : pointers_(args.rows), taps_(args.taps) {}

  /// Goes to another block of rows.
  void take(size_t row, size_t rows) {
    row_ = row;
    rows_ = rows;
    kept_ = false;
  }

  /// Says that all chunks of the rows were asked for once.
  void end_columns() { kept_ = true; }

  size_t stride() const { return kChunkBytes; }

  /// Returns row 0 of chunk `index`, which begins at byte k of tap `tap`.
  const uint8_t* find(size_t tap, size_t k, size_t index) {
    uint8_t* copy = copies_ + min_size(index, kKept) * kBlock * kChunkBytes;
    if (kept_ && index < kKept) return copy;
    const uint8_t* const* pointer = pointers_ + row_ * taps_ + tap;
    for (size_t i = 0; i < rows_; ++i, pointer += taps_) {
      _mm512_store_si512(copy + i * kChunkBytes, _mm512_loadu_si512(*pointer + k));
    }
    return copy;
  }

 private:
  const uint8_t* const* pointers_;
  size_t taps_;
  size_t row_ = 0;
  size_t rows_ = 0;
  bool kept_ = false;
  alignas(64) uint8_t copies_[(kKept + 1) * kBlock * kChunkBytes];
};

/// Multiplies a chunk where all are as wide.
template <int kRowTiles, int kPanels>
inline void multiply_even(const uint8_t* a, size_t a_stride, const int8_t* w, size_t panel_bytes) {
  load_tile<4>(a, a_stride);
  load_tile<6>(w, kStepBytes);
  multiply_tile<0, 4, 6>();
  if constexpr (kPanels == 2) {
    load_tile<7>(w + panel_bytes, kStepBytes);
    multiply_tile<1, 4, 7>();
  }
  if constexpr (kRowTiles == 2) {
    load_tile<5>(a + kTile * a_stride, a_stride);
    multiply_tile<2, 5, 6>();
    if constexpr (kPanels == 2) multiply_tile<3, 5, 7>();
  }
}

/// Multiplies a chunk with one tile kA for rows and one tile kB for columns.
template <int kRowTiles, int kPanels, int kA, int kB>
inline void multiply_in_turn(const uint8_t* a, size_t a_stride, const int8_t* w,
                             size_t panel_bytes) {
  load_tile<kA>(a, a_stride);
  load_tile<kB>(w, kStepBytes);
  multiply_tile<0, kA, kB>();
  if constexpr (kPanels == 2) {
    load_tile<kB>(w + panel_bytes, kStepBytes);
    multiply_tile<1, kA, kB>();
  }
  if constexpr (kRowTiles == 2) {
    load_tile<kA>(a + kTile * a_stride, a_stride);
    multiply_tile<kPanels == 2 ? 3 : 2, kA, kB>();
    if constexpr (kPanels == 2) {
      load_tile<kB>(w, kStepBytes);
      multiply_tile<2, kA, kB>();
    }
  }
}

/// Starts the accumulators with the bias.
template <int kRowTiles, int kPanels>
inline void load_bias(const int32_t* bias) {
  load_tile<0>(bias, 0);
  if constexpr (kPanels == 2) load_tile<1>(bias + kTile, 0);
  if constexpr (kRowTiles == 2) load_tile<2>(bias, 0);
  if constexpr (kRowTiles == 2 && kPanels == 2) load_tile<3>(bias + kTile, 0);
}

template <int kRowTiles, int kPanels>
inline void store_tiles(int32_t* accumulators) {
  constexpr size_t kStride = kBlock * sizeof(int32_t);
  store_tile<0>(accumulators, kStride);
  if constexpr (kPanels == 2) store_tile<1>(accumulators + kTile, kStride);
  if constexpr (kRowTiles == 2) {
    store_tile<2>(accumulators + kTile * kBlock, kStride);
    if constexpr (kPanels == 2) store_tile<3>(accumulators + kTile * kBlock + kTile, kStride);
  }
}

/// Computes `count` rows (the tiles' rows) of the panels from `panel` on, and leaves them waiting.
template <int kRowTiles, int kPanels, class Rows>
void run_block(const Call& call, Rows& rows, Waiting& waiting, size_t row, size_t count,
               size_t panel) {
  const GemmArgs& args = call.args;
  const Cut& cut = call.cut;
  const size_t column = panel * kTile;
  const size_t chunks = args.taps * cut.chunks;
  const size_t share = chunks == 0 ? 0 : (kTile + chunks - 1) / chunks;
  const int8_t* w = args.w + panel * call.panel_bytes;
  load_bias<kRowTiles, kPanels>(args.bias + column);
  for (size_t tap = 0, index = 0; tap < args.taps; ++tap) {
    size_t k = 0;
    for (size_t chunk = 0; chunk < cut.chunks; ++chunk, ++index) {
      const uint8_t* a = rows.find(tap, k, index);
      if (cut.even()) {
        multiply_even<kRowTiles, kPanels>(a, rows.stride(), w, call.panel_bytes);
      } else if (chunk < cut.wide) {
        multiply_in_turn<kRowTiles, kPanels, 4, 6>(a, rows.stride(), w, call.panel_bytes);
      } else {
        multiply_in_turn<kRowTiles, kPanels, 5, 7>(a, rows.stride(), w, call.panel_bytes);
      }
      k += cut.steps(chunk) * kKr;
      w += cut.steps(chunk) * kStepBytes;
      waiting.store(share);
    }
  }
  waiting.finish();
  store_tiles<kRowTiles, kPanels>(waiting.accumulators());
  waiting.set(row, count, column, min_size(kPanels * kTile, args.n - column));
}

/// Computes `count` rows of the panels [panel, end).
template <int kRowTiles, class Rows>
void run_rows(const Call& call, Rows& rows, Waiting& waiting, size_t row, size_t count,
              size_t panel, size_t end) {
  rows.take(row, count);
  for (; panel + 2 <= end; panel += 2) {
    run_block<kRowTiles, 2>(call, rows, waiting, row, count, panel);
    rows.end_columns();
  }
  if (panel < end) run_block<kRowTiles, 1>(call, rows, waiting, row, count, panel);
}

template <class Rows>
void run(const Call& call) {
  const size_t m = call.args.m;
  const size_t panels = (call.args.n + kTile - 1) / kTile;
  const size_t fitting = kWeightsInCache / max_size(call.panel_bytes, 1);
  const size_t group = max_size(fitting / 2 * 2, 2);
  Rows rows(call.args);
  Waiting waiting(call);
  for (size_t panel = 0; panel < panels; panel += group) {
    const size_t end = min_size(panel + group, panels);
    size_t row = 0;
    if (m >= kTile) configure(call.cut, kTile);
    for (; m - row >= kBlock; row += kBlock) {
      run_rows<2>(call, rows, waiting, row, kBlock, panel, end);
    }
    if (m - row >= kTile) {
      run_rows<1>(call, rows, waiting, row, kTile, panel, end);
      row += kTile;
    }
    if (row < m) {
      configure(call.cut, m - row);
      run_rows<1>(call, rows, waiting, row, m - row, panel, end);
    }
  }
  waiting.finish();
  release_tiles();
}

}  // namespace

void gemm_u8_s8c_u8_32x32c4_x86_amx(const GemmArgs& args) {
  const size_t steps = (args.k + kKr - 1) / kKr;
  const size_t tap_bytes = steps * kStepBytes;
  const Call call{args,
                  Cut(steps),
                  tap_bytes,
                  args.taps * tap_bytes,
                  find_epilogue(args),
                  find_requantize_bytes(args.requantize)};
  if (args.rows == nullptr) {
    run<StridedRows>(call);
  } else {
    run<CopiedRows>(call);
  }
}

}  // namespace edgekit
