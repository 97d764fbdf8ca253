#include "ops/binary.h"

#include "kernels/elementwise/elementwise.h"
#include "ops/blocks.h"
#include "ops/check.h"

namespace edgekit {
namespace {

/// One dimension of a broadcast: its size, and how many elements apart its neighbours lie in a and
/// b, 0 where that input repeats.
struct Dimension {
  size_t size;
  size_t a_step;
  size_t b_step;
};

/// A broadcast with as few dimensions as say the same, outermost first. At least one.
struct Broadcast {
  size_t rank = 0;
  Dimension dims[kMaxRank] = {};

  const Dimension& inner() const { return dims[rank - 1]; }
};

/// Returns the dimension of `shape` that stands under dimension i of a shape of rank `rank`.
int64_t aligned_dim(const Shape& shape, size_t rank, size_t i) {
  return i + shape.rank < rank ? 1 : shape.dims[i + shape.rank - rank];
}

/// Works out the broadcast of two shapes; false when `out` is not it.
bool find_broadcast(const Shape& a, const Shape& b, const Shape& out, Broadcast* broadcast) {
  const size_t rank = out.rank;
  if (rank != (a.rank > b.rank ? a.rank : b.rank)) return false;
  size_t a_step = 1;
  size_t b_step = 1;
  Dimension reversed[kMaxRank] = {};
  size_t count = 0;
  for (size_t i = rank; i-- > 0;) {
    const int64_t a_dim = aligned_dim(a, rank, i);
    const int64_t b_dim = aligned_dim(b, rank, i);
    const int64_t dim = a_dim == 1 ? b_dim : a_dim;
    if ((b_dim != 1 && b_dim != dim) || out.dims[i] != dim) return false;
    if (dim == 1) continue;
    const Dimension d = {static_cast<size_t>(dim), a_dim == 1 ? 0 : a_step,
                         b_dim == 1 ? 0 : b_step};
    a_step *= static_cast<size_t>(a_dim);
    b_step *= static_cast<size_t>(b_dim);
    if (count != 0) {
      Dimension& inner = reversed[count - 1];
      if (d.a_step == inner.a_step * inner.size && d.b_step == inner.b_step * inner.size) {
        inner.size *= d.size;
        continue;
      }
    }
    reversed[count++] = d;
  }
  if (count == 0) reversed[count++] = {1, 1, 1};
  broadcast->rank = count;
  for (size_t i = 0; i < count; ++i) broadcast->dims[i] = reversed[count - 1 - i];
  return true;
}

/// Units are rows of the innermost dimension, or blocks of it where there is no other.
class Binary : public Op {
 public:
  Binary(const BinaryParams& params, const Broadcast& broadcast, const PlanTarget& target)
      : broadcast_(broadcast),
        a_(params.a.data),
        b_(params.b.data),
        output_(params.output.data),
        size_(element_count(params.output.shape)),
        multiplies_(params.kind == BinaryKind::kMul),
        add_(select_kernel<AddArgs>(target.isa, target.storage).run),
        mul_(select_kernel<MulArgs>(target.isa, target.storage).run) {
    const int32_t offset = storage_offset(target.storage);
    operands_.a_step = broadcast.inner().a_step;
    operands_.b_step = broadcast.inner().b_step;
    operands_.a_zero_point = params.a.zero_point + offset;
    operands_.b_zero_point = params.b.zero_point + offset;
    operands_.zero_point = params.output.zero_point + offset;
    operands_.lo = static_cast<float>(params.lo - params.output.zero_point);
    operands_.hi = static_cast<float>(params.hi - params.output.zero_point);
    ratio_a_ = params.a.scale / params.output.scale;
    ratio_b_ = params.b.scale / params.output.scale;
    if (params.kind == BinaryKind::kSub) ratio_b_ = -ratio_b_;
    const float scale = params.a.scale * params.b.scale;
    multiplier_ = scale / params.output.scale;
  }

  size_t units() const override {
    return broadcast_.rank == 1 ? block_count(size_) : size_ / broadcast_.inner().size;
  }
  size_t cost() const override { return size_; }

  void run(size_t begin, size_t end, uint8_t*) const override {
    if (broadcast_.rank == 1) {
      const size_t first = begin * kBlockSize;
      Operands operands = operands_;
      operands.rows = 1;
      operands.width = block_end(end, size_) - first;
      operands.a = *a_ + first * operands.a_step;
      operands.b = *b_ + first * operands.b_step;
      operands.y = *output_ + first;
      run_kernel(operands);
      return;
    }
    // The rows of the innermost dimension but one go to the kernel together.
    const Dimension& rows = broadcast_.dims[broadcast_.rank - 2];
    while (begin < end) {
      const size_t left = rows.size - begin % rows.size;
      const size_t count = end - begin < left ? end - begin : left;
      run_rows(begin, count, rows);
      begin += count;
    }
  }

 private:
  void run_rows(size_t first, size_t count, const Dimension& rows) const {
    Operands operands = operands_;
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
    run_kernel(operands);
  }

  void run_kernel(const Operands& operands) const {
    if (multiplies_) {
      mul_({operands, multiplier_});
    } else {
      add_({operands, ratio_a_, ratio_b_});
    }
  }

  Broadcast broadcast_;
  uint8_t* const* a_;
  uint8_t* const* b_;
  uint8_t* const* output_;
  size_t size_;
  bool multiplies_;
  Operands operands_ = {};
  float ratio_a_;
  float ratio_b_;
  float multiplier_;
  void (*add_)(const AddArgs&);
  void (*mul_)(const MulArgs&);
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
  if (static_cast<uint8_t>(params.kind) > static_cast<uint8_t>(BinaryKind::kMul)) {
    fail(error, {"the kind of elementwise operation is unknown"});
    return nullptr;
  }
  Broadcast broadcast;
  if (!find_broadcast(params.a.shape, params.b.shape, params.output.shape, &broadcast)) {
    fail(error, {"output ", describe(params.output), " is not the broadcast of ",
                 describe(params.a), " and ", describe(params.b)});
    return nullptr;
  }
  return std::make_unique<Binary>(params, broadcast, target);
}

}  // namespace edgekit
