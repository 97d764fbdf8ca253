#include "ops/matmul.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/gemm/gemm.h"
#include "kernels/move/move.h"
#include "kernels/storage.h"
#include "ops/check.h"
#include "ops/matrices.h"
#include "ops/round_up.h"

namespace edgekit {
namespace {

constexpr int32_t kMostWeight = 127;
/// Weights that add up to any `b - z_b`, which lies within [-255, 255].
constexpr size_t kMostTaps = 3;
/// The largest magnitude of `a - z_a` and of `b - z_b`.
constexpr int64_t kMostOffset = 255;
/// Rows whose pointers a kernel gets at once, where it takes several taps.
constexpr size_t kPointedRows = 64;

/// Units are tiles of rows of all batches. Each thread packs the second matrix of a batch when it
/// gets there.
///
/// Scratch: the columns of b one behind the other, each padded to whole steps of k; the packed
/// weights; a bias for each column; row pointers.
class MatMul : public Op {
 public:
  MatMul(const MatMulParams& params, const Matrices& matrices, const GemmKernel& kernel,
         const TensorView& own, const TableStage& table, const PlanTarget& target)
      : kernel_(kernel),
        matrices_(matrices),
        a_(params.a.data),
        b_(params.b.data),
        output_(params.output.data),
        transposed_(params.transposed),
        move_(select_kernel<MoveArgs>(target.isa, target.storage).run),
        table_(table),
        flip_(target.storage == Storage::kU8 ? 0 : 128),
        a_zero_point_(params.a.zero_point + storage_offset(target.storage)),
        b_zero_point_(params.b.zero_point),
        tiles_((matrices.m + kernel.mr - 1) / kernel.mr),
        depth_(round_up(matrices.k, kernel.kr)),
        columns_(round_up(matrices.n, kernel.panel)),
        scale_(round_up(matrices.n, kernel.nr), params.a.scale * params.b.scale / own.scale) {
    requantize_.lo = static_cast<float>(params.lo - own.zero_point);
    requantize_.hi = static_cast<float>(params.hi - own.zero_point);
    requantize_.zero_point = own.zero_point + storage_offset(target.storage);
    requantize_.scale = scale_.data();
    const int32_t none = 0;
    const auto most = static_cast<int64_t>(matrices.k) * kMostOffset * kMostWeight;
    one_tap_fits_16_ = products_fit_16(&none, scale_.data(), 1, most);
    const size_t most_columns = std::max(columns_, kMostTaps * kernel.nr);
    packed_at_ = round_up(std::max(columns_, size_t{kernel.nr}) * depth_, kLineSize);
    bias_at_ = packed_at_ + round_up(most_columns * depth_, kLineSize);
    pointers_at_ = bias_at_ + round_up(scale_.size() * sizeof(int32_t), kLineSize);
  }

  size_t units() const override { return matrices_.batches * tiles_; }
  /// Whole matrices, so that each is packed once.
  size_t granule() const override { return matrices_.batches > 1 ? tiles_ : 1; }
  size_t cost() const override {
    return matrices_.batches * matrices_.m * matrices_.k * matrices_.n;
  }
  size_t scratch_size() const override {
    return pointers_at_ + kPointedRows * kMostTaps * sizeof(const uint8_t*);
  }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    size_t known = matrices_.batches;
    size_t taps = 1;
    while (begin < end) {
      const size_t batch = begin / tiles_;
      const size_t tile = begin % tiles_;
      const size_t count = std::min(end - begin, tiles_ - tile);
      const size_t row = tile * kernel_.mr;
      const size_t rows = std::min(count * kernel_.mr, matrices_.m - row);
      const bool is_known = known == batch || (known != matrices_.batches && matrices_.shared);
      if (!is_known) taps = count_taps(batch);
      // Weights of several taps are packed for a tile's columns at a time.
      const size_t block = taps == 1 ? columns_ : kernel_.nr;
      for (size_t column = 0; column < matrices_.n; column += block) {
        const size_t width = std::min(block, matrices_.n - column);
        if (taps > 1 || !is_known) pack(batch, column, block, taps, scratch);
        multiply(batch * matrices_.m + row, rows, column, width, taps, scratch);
      }
      known = batch;
      begin += count;
    }
  }

 private:
  const uint8_t* matrix(size_t batch) const {
    return *b_ + (matrices_.shared ? 0 : batch * matrices_.k * matrices_.n);
  }

  /// Returns how many weights in [-127, 127] a `b - z_b` of the batch is the sum of, at the most.
  size_t count_taps(size_t batch) const {
    const uint8_t* b = matrix(batch);
    const size_t size = matrices_.k * matrices_.n;
    uint8_t low = UINT8_MAX;
    uint8_t high = 0;
    for (size_t i = 0; i < size; ++i) {
      const auto code = static_cast<uint8_t>(b[i] ^ flip_);
      low = std::min(low, code);
      high = std::max(high, code);
    }
    const int32_t zero_point = b_zero_point_ + 128;
    const int32_t reach = std::max({high - zero_point, zero_point - low, int32_t{1}});
    return static_cast<size_t>((reach + kMostWeight - 1) / kMostWeight);
  }

  /// Makes weights of `width` columns of a batch, whole panels, and their bias. What columns beyond
  /// n hold is of no account.
  void pack(size_t batch, size_t column, size_t width, size_t taps, uint8_t* scratch) const {
    const size_t n = matrices_.n;
    const size_t k = matrices_.k;
    const size_t count = std::min(width, n - column);
    auto* bias = reinterpret_cast<int32_t*>(scratch + bias_at_);
    std::fill_n(bias, round_up(width, kernel_.nr), 0);
    for (size_t tap = 0; tap < taps; ++tap) {
      // One column of b behind the other.
      const uint8_t* b = matrix(batch) + column * (transposed_ ? k : 1);
      const auto step = static_cast<ptrdiff_t>(transposed_ ? 1 : n);
      const auto stride = static_cast<ptrdiff_t>(transposed_ ? k : 1);
      move_({count, k, 1, b, stride, step, scratch, depth_});
      if (taps == 1) center(scratch, count * depth_);
      for (size_t c = 0; c < count; ++c) {
        uint8_t* w = scratch + c * depth_;
        if (taps > 1) center(w, k, tap);
        for (size_t i = k; i < depth_; ++i) w[i] = 0;
        if (a_zero_point_ != 0) bias[c] -= a_zero_point_ * sum(w);
      }
      pack_tap(tap, taps, width, scratch);
    }
  }

  /// Makes weights of stored codes whose offsets are weights.
  void center(uint8_t* w, size_t size) const {
    const auto zero_point = static_cast<uint8_t>((b_zero_point_ + 128) ^ flip_);
    for (size_t i = 0; i < size; ++i) w[i] = static_cast<uint8_t>(w[i] - zero_point);
  }

  /// The same of codes whose offsets are the sum of several: what is left beyond the taps before.
  void center(uint8_t* w, size_t size, size_t tap) const {
    const int32_t before = static_cast<int32_t>(tap) * kMostWeight;
    const int32_t zero_point = b_zero_point_ + 128;
    EDGEKIT_SMALL_LOOP
    for (size_t i = 0; i < size; ++i) {
      const int32_t offset = (w[i] ^ flip_) - zero_point;
      const int32_t beyond = std::max(offset - before, 0) + std::min(offset + before, 0);
      const int32_t weight = std::min(std::max(beyond, -kMostWeight), kMostWeight);
      w[i] = static_cast<uint8_t>(weight);
    }
  }

  /// Returns the sum of the weights of a column.
  int32_t sum(const uint8_t* w) const {
    int32_t total = 0;
    for (size_t i = 0; i < depth_; ++i) total += static_cast<int8_t>(w[i]);
    return total;
  }

  /// Packs the columns as pack_gemm() does: steps of k of one column behind those of another.
  void pack_tap(size_t tap, size_t taps, size_t width, uint8_t* scratch) const {
    const size_t kr = kernel_.kr;
    const size_t steps = depth_ / kr;
    const size_t panel = kernel_.panel;
    for (size_t first = 0; first < width; first += panel) {
      const uint8_t* from = scratch + first * depth_;
      uint8_t* to = scratch + packed_at_ + (first * taps + tap * panel) * depth_;
      if (kr == sizeof(uint32_t)) {
        const auto stride = static_cast<ptrdiff_t>(kr);
        move_({steps, panel, kr, from, stride, static_cast<ptrdiff_t>(depth_), to, panel * kr});
        continue;
      }
      for (size_t i = 0; i < steps; ++i) {
        for (size_t c = 0; c < panel; ++c, to += kr)
          std::memcpy(to, from + c * depth_ + i * kr, kr);
      }
    }
  }

  /// Multiplies rows of all batches with the packed columns, and applies the table.
  void multiply(size_t row, size_t rows, size_t column, size_t width, size_t taps,
                uint8_t* scratch) const {
    GemmArgs args = {};
    args.n = width;
    args.k = matrices_.k;
    args.taps = taps;
    args.a_stride = matrices_.k;
    args.w = reinterpret_cast<const int8_t*>(scratch + packed_at_);
    args.bias = reinterpret_cast<const int32_t*>(scratch + bias_at_);
    args.requantize = requantize_;
    args.requantize.products_fit_16 = taps == 1 && one_tap_fits_16_;
    args.output = Output::kCodes;
    args.y_stride = matrices_.n;
    size_t block = table_.present() ? TableStage::block_rows(width, kernel_.mr) : rows;
    if (taps > 1) block = std::min(block, kPointedRows / kernel_.mr * kernel_.mr);
    auto* pointers = reinterpret_cast<const uint8_t**>(scratch + pointers_at_);
    for (size_t first = row; first < row + rows; first += block) {
      args.m = std::min(block, row + rows - first);
      args.a = *a_ + first * matrices_.k;
      if (taps > 1) {
        for (size_t i = 0; i < args.m * taps; ++i) {
          pointers[i] = args.a + i / taps * matrices_.k;
        }
        args.rows = pointers;
      }
      uint8_t* y = *output_ + first * matrices_.n + column;
      args.y = y;
      kernel_.run(args);
      if (table_.present()) table_.apply(y, args.m, width, matrices_.n);
    }
  }

  const GemmKernel& kernel_;
  Matrices matrices_;
  uint8_t* const* a_;
  uint8_t* const* b_;
  uint8_t* const* output_;
  bool transposed_;
  void (*move_)(const MoveArgs&);
  TableStage table_;
  /// What makes a stored code the code plus 128.
  uint8_t flip_;
  /// Stored.
  int32_t a_zero_point_;
  /// A code.
  int32_t b_zero_point_;
  size_t tiles_;
  /// k, and columns, as many as whole steps and panels of the kernel have.
  size_t depth_;
  size_t columns_;
  std::vector<float> scale_;
  Requantize requantize_ = {};
  bool one_tap_fits_16_ = false;
  size_t packed_at_ = 0;
  size_t bias_at_ = 0;
  size_t pointers_at_ = 0;
};

}  // namespace

std::unique_ptr<Op> make_matmul(const MatMulParams& params, const PlanTarget& target,
                                std::string* error) {
  Matrices matrices;
  TensorView own;
  TableStage table;
  if (!check_codes(params.a, error) || !check_codes(params.b, error) ||
      !check_codes(params.output, error) || !check_bounds(params.lo, params.hi, error) ||
      !check_readable_behind(params.a, error) ||
      !find_matrices(params.a, params.b, params.output, params.transposed, &matrices, error) ||
      !table.init(params.table, params.output, target, &own, error)) {
    return nullptr;
  }
  const GemmKernel* kernel = find_gemm_kernel(params.kernel);
  if (kernel == nullptr || kernel->exactness != Exactness::kAlways || kernel->bits != 8) {
    fail(error, {"kernel '", params.kernel, "' is unknown, or not exact for every matrix"});
    return nullptr;
  }
  if (!check_kernel(kernel->name, kernel->isa, kernel->storage, kernel->run != nullptr, target,
                    error)) {
    return nullptr;
  }
  // The sums themselves, and what the zero point of a adds to them.
  constexpr int64_t kMostSum = 2 * kMostOffset * kMostOffset;
  if (matrices.k > static_cast<size_t>(std::numeric_limits<int32_t>::max() / kMostSum)) {
    fail(error, {"sums of ", std::to_string(matrices.k), " products may leave int32"});
    return nullptr;
  }
  if (!multiply({matrices.n + kMostTaps * kernel->nr, matrices.k + kernel->kr, 2}, nullptr)) {
    fail(error, {"the matrices are too large"});
    return nullptr;
  }
  return std::make_unique<MatMul>(params, matrices, *kernel, own, table, target);
}

}  // namespace edgekit
