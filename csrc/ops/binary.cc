#include "ops/binary.h"

#include <algorithm>

#include "kernels/elementwise/elementwise.h"
#include "ops/blocks.h"
#include "ops/broadcast.h"
#include "ops/check.h"
#include "ops/repeat_pixels.h"

namespace edgekit {
namespace {

/// The kernel of an operation with all that is the same for each of its runs.
class BinaryKernel {
 public:
  BinaryKernel(const BinaryParams& params, const TensorView& own, const TableStage& table,
               const PlanTarget& target)
      : table_(table),
        kind_(params.kind),
        add_(select_kernel<AddArgs>(target.isa, target.storage).run),
        mul_(select_kernel<MulArgs>(target.isa, target.storage).run),
        extreme_(select_kernel<ExtremeArgs>(target.isa, target.storage).run) {
    const int32_t offset = storage_offset(target.storage);
    operands_.a_zero_point = params.a.zero_point + offset;
    operands_.b_zero_point = params.b.zero_point + offset;
    operands_.zero_point = own.zero_point + offset;
    operands_.lo = static_cast<float>(params.lo - own.zero_point);
    operands_.hi = static_cast<float>(params.hi - own.zero_point);
    ratio_a_ = params.a.scale / own.scale;
    ratio_b_ = params.b.scale / own.scale;
    if (params.kind == BinaryKind::kSub) ratio_b_ = -ratio_b_;
    const float scale = params.a.scale * params.b.scale;
    multiplier_ = scale / own.scale;
  }

  bool has_table() const { return table_.present(); }

  /// Returns operands without places.
  const Operands& operands() const { return operands_; }

  void run(const Operands& operands) const {
    if (kind_ == BinaryKind::kMul) {
      mul_({operands, multiplier_});
    } else if (kind_ == BinaryKind::kMax || kind_ == BinaryKind::kMin) {
      extreme_({operands, ratio_a_, ratio_b_, kind_ == BinaryKind::kMax});
    } else {
      add_({operands, ratio_a_, ratio_b_});
    }
    if (table_.present()) {
      table_.apply(operands.y, operands.rows, operands.width, operands.y_stride);
    }
  }

 private:
  TableStage table_;
  BinaryKind kind_;
  Operands operands_ = {};
  float ratio_a_;
  float ratio_b_;
  float multiplier_;
  void (*add_)(const AddArgs&);
  void (*mul_)(const MulArgs&);
  void (*extreme_)(const ExtremeArgs&);
};

/// Units are rows of the innermost dimension, or blocks of it where there is no other.
class Binary : public Op {
 public:
  Binary(const BinaryParams& params, const BinaryKernel& kernel, const Broadcast& broadcast)
      : kernel_(kernel),
        broadcast_(broadcast),
        a_(params.a.data),
        b_(params.b.data),
        output_(params.output.data),
        size_(element_count(params.output.shape)) {}

  size_t units() const override {
    return broadcast_.rank == 1 ? block_count(size_) : size_ / broadcast_.inner().size;
  }
  size_t cost() const override { return size_; }

  void run(size_t begin, size_t end, uint8_t*) const override {
    if (broadcast_.rank == 1) {
      const size_t most = kernel_.has_table() ? TableStage::block_rows(kBlockSize, 1) : end - begin;
      for (; begin < end; begin += most) {
        const size_t first = begin * kBlockSize;
        Operands operands = inner_operands();
        operands.rows = 1;
        operands.width = block_end(end - begin < most ? end : begin + most, size_) - first;
        operands.a = *a_ + first * operands.a_step;
        operands.b = *b_ + first * operands.b_step;
        operands.y = *output_ + first;
        operands.y_stride = operands.width;
        kernel_.run(operands);
      }
      return;
    }
    // The rows of the innermost dimension but one go to the kernel together.
    const Dimension& rows = broadcast_.dims[broadcast_.rank - 2];
    const size_t most =
        kernel_.has_table() ? TableStage::block_rows(broadcast_.inner().size, 1) : size_;
    while (begin < end) {
      const size_t count = std::min({end - begin, rows.size - begin % rows.size, most});
      run_rows(begin, count, rows);
      begin += count;
    }
  }

 private:
  void run_rows(size_t first, size_t count, const Dimension& rows) const {
    Operands operands = inner_operands();
    operands.rows = count;
    operands.width = broadcast_.inner().size;
    operands.a = *a_;
    operands.b = *b_;
    operands.y = *output_ + first * operands.width;
    size_t index = first;
    for (size_t i = broadcast_.rank - 1; i-- > 0;) {
      const Dimension& d = broadcast_.dims[i];
      operands.a += index % d.size * d.a_step;
      operands.b += index % d.size * d.b_step;
      index /= d.size;
    }
    operands.a_stride = rows.a_step;
    operands.b_stride = rows.b_step;
    operands.y_stride = operands.width;
    kernel_.run(operands);
  }

  Operands inner_operands() const {
    Operands operands = kernel_.operands();
    operands.a_step = broadcast_.inner().a_step;
    operands.b_step = broadcast_.inner().b_step;
    return operands;
  }

  BinaryKernel kernel_;
  Broadcast broadcast_;
  uint8_t* const* a_;
  uint8_t* const* b_;
  uint8_t* const* output_;
  size_t size_;
};

/// Where pixels of b repeat. Units are output rows of all images; a row of b is spread into scratch
/// once for all rows that it goes to.
class RepeatingBinary : public Op {
 public:
  RepeatingBinary(const BinaryParams& params, const BinaryKernel& kernel, const Repeats& repeats)
      : kernel_(kernel),
        repeats_(repeats),
        a_(params.a.data),
        b_(params.b.data),
        output_(params.output.data),
        rows_(element_count(params.output.shape, 0, 2)),
        columns_(static_cast<size_t>(params.b.shape.dims[2])),
        channels_(static_cast<size_t>(params.b.shape.dims[3])) {}

  size_t units() const override { return rows_; }
  size_t cost() const override { return rows_ * width(); }
  size_t scratch_size() const override { return width(); }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    Operands operands = kernel_.operands();
    operands.rows = 1;
    operands.width = width();
    operands.a_step = 1;
    operands.b = scratch;
    operands.b_step = 1;
    operands.y_stride = width();
    for (size_t row = begin; row < end; ++row) {
      if (row == begin || row % repeats_.rows == 0) {
        // An image has a whole number of the rows that repeat.
        const uint8_t* b = *b_ + row / repeats_.rows * columns_ * channels_;
        repeat_pixels({columns_, channels_, b, channels_, repeats_.columns, scratch, channels_});
      }
      operands.a = *a_ + row * width();
      operands.y = *output_ + row * width();
      kernel_.run(operands);
    }
  }

 private:
  size_t width() const { return columns_ * repeats_.columns * channels_; }

  BinaryKernel kernel_;
  Repeats repeats_;
  uint8_t* const* a_;
  uint8_t* const* b_;
  uint8_t* const* output_;
  size_t rows_;
  /// Of b.
  size_t columns_;
  size_t channels_;
};

}  // namespace

std::unique_ptr<Op> make_binary(const BinaryParams& params, const PlanTarget& target,
                                std::string* error) {
  if (!check_codes(params.a, error) || !check_codes(params.b, error) ||
      !check_codes(params.output, error) || !check_bounds(params.lo, params.hi, error) ||
      !check_disjoint_or_same(params.a, params.output, error) ||
      !check_disjoint_or_same(params.b, params.output, error)) {
    return nullptr;
  }
  if (static_cast<uint8_t>(params.kind) > static_cast<uint8_t>(BinaryKind::kMin)) {
    fail(error, {"the kind of elementwise operation is unknown"});
    return nullptr;
  }
  TensorView own;
  TableStage table;
  if (!table.init(params.table, params.output, target, &own, error)) return nullptr;
  const BinaryKernel kernel(params, own, table, target);
  Broadcast broadcast;
  if (find_broadcast(params.a.shape, params.b.shape, params.output.shape, &broadcast)) {
    return std::make_unique<Binary>(params, kernel, broadcast);
  }
  Repeats repeats;
  if (same_shape(params.a.shape, params.output.shape) &&
      find_repeats(params.b.shape, params.output.shape, &repeats)) {
    return std::make_unique<RepeatingBinary>(params, kernel, repeats);
  }
  fail(error, {"output ", describe(params.output), " is not the broadcast of ", describe(params.a),
               " and ", describe(params.b)});
  return nullptr;
}

}  // namespace edgekit
