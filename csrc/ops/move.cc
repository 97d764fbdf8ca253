#include "ops/move.h"

#include <algorithm>
#include <cstring>

#include "kernels/move/move.h"
#include "ops/blocks.h"
#include "ops/check.h"
#include "ops/lookup.h"

namespace edgekit {
namespace {

/// An output's dimensions, outermost first, and how many elements of the input apart the neighbours
/// of each lie. At least one; neighbours that continue each other are one dimension.
struct View {
  size_t rank = 0;
  size_t sizes[kMaxRank] = {};
  ptrdiff_t steps[kMaxRank] = {};

  void append(size_t size, ptrdiff_t step) {
    if (size == 1) return;
    if (rank != 0 && steps[rank - 1] == step * static_cast<ptrdiff_t>(size)) {
      sizes[rank - 1] *= size;
      steps[rank - 1] = step;
      return;
    }
    sizes[rank] = size;
    steps[rank] = step;
    ++rank;
  }
};

/// Returns the elements between neighbours of dimension i.
ptrdiff_t dense_step(const Shape& shape, size_t i) {
  return static_cast<ptrdiff_t>(element_count(shape, i + 1, shape.rank));
}

/// Transpose, slice and reshape: reads the input through a View. Units are rows of the innermost
/// dimension, or blocks of it where there is no other.
class ViewMove : public Op {
 public:
  ViewMove(const TensorView& input, const TensorView& output, View view, size_t first,
           const PlanTarget& target)
      : view_(view),
        input_(input.data),
        output_(output.data),
        element_size_(dtype_size(output.dtype)),
        size_(element_count(output.shape)),
        first_(first),
        kernel_(select_kernel<MoveArgs>(target.isa, target.storage).run) {
    if (view_.rank == 0) {
      view_.rank = 1;
      view_.sizes[0] = 1;
      view_.steps[0] = 1;
    }
  }

  size_t units() const override { return view_.rank == 1 ? block_count(size_) : size_ / width(); }
  size_t cost() const override { return size_ * element_size_; }

  void run(size_t begin, size_t end, uint8_t*) const override {
    if (view_.rank == 1) {
      const size_t first = begin * kBlockSize;
      run_rows(static_cast<ptrdiff_t>(first) * view_.steps[0], first, 1,
               block_end(end, size_) - first);
      return;
    }
    // The rows of the innermost dimension but one go to the kernel together.
    const size_t rows = view_.sizes[view_.rank - 2];
    while (begin < end) {
      const size_t left = rows - begin % rows;
      const size_t count = end - begin < left ? end - begin : left;
      ptrdiff_t from = 0;
      size_t index = begin;
      for (size_t i = view_.rank - 1; i-- > 0;) {
        from += static_cast<ptrdiff_t>(index % view_.sizes[i]) * view_.steps[i];
        index /= view_.sizes[i];
      }
      run_rows(from, begin * width(), count, width());
      begin += count;
    }
  }

 private:
  size_t width() const { return view_.sizes[view_.rank - 1]; }

  /// Moves rows that begin at element `from` after the first of the view to element `to` of the
  /// output.
  void run_rows(ptrdiff_t from, size_t to, size_t rows, size_t row_width) const {
    const ptrdiff_t size = static_cast<ptrdiff_t>(element_size_);
    MoveArgs args;
    args.rows = rows;
    args.width = row_width;
    args.element_size = element_size_;
    args.x = *input_ + (static_cast<ptrdiff_t>(first_) + from) * size;
    args.x_stride = view_.rank > 1 ? view_.steps[view_.rank - 2] * size : 0;
    args.x_step = view_.steps[view_.rank - 1] * size;
    args.y = *output_ + to * element_size_;
    args.y_stride = row_width * element_size_;
    kernel_(args);
  }

  View view_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  size_t element_size_;
  size_t size_;
  /// Element of the input at the output's origin.
  size_t first_;
  void (*kernel_)(const MoveArgs&);
};

/// A reshape or slice whose output lies in the input's own memory.
class Nothing : public Op {
 public:
  size_t units() const override { return 0; }
  size_t cost() const override { return 0; }
  void run(size_t, size_t, uint8_t*) const override {}
};

/// Units are rows of the output, from the innermost dimension that is padded inwards.
class Pad : public Op {
 public:
  Pad(const PadParams& params, const PlanTarget& target)
      : input_(params.input.data), output_(params.output.data) {
    const Shape& in = params.input.shape;
    const Shape& out = params.output.shape;
    size_t inner = in.rank;
    while (inner > 0 && params.pads[2 * inner - 2] == 0 && params.pads[2 * inner - 1] == 0) {
      --inner;
    }
    // Dimension `axis` is cut into before, middle and after; those inside it are part of its
    // elements.
    const size_t axis = inner == 0 ? 0 : inner - 1;
    const size_t element = element_count(in, axis + 1, in.rank) * dtype_size(params.input.dtype);
    if (in.rank == 0) {
      middle_ = dtype_size(params.input.dtype);
    } else {
      before_ = params.pads[2 * axis] * element;
      middle_ = static_cast<size_t>(in.dims[axis]) * element;
      after_ = params.pads[2 * axis + 1] * element;
    }
    rank_ = axis;
    for (size_t i = 0; i < rank_; ++i) {
      begin_[i] = params.pads[2 * i];
      in_[i] = static_cast<size_t>(in.dims[i]);
      out_[i] = static_cast<size_t>(out.dims[i]);
    }
    rows_ = element_count(out, 0, rank_);
    if (params.output.dtype == DType::kCode) {
      fill_ = static_cast<uint8_t>(params.value + storage_offset(target.storage));
    }
    real_ = params.real;
  }

  size_t units() const override { return rows_; }
  size_t cost() const override { return rows_ * row_size(); }

  void run(size_t begin, size_t end, uint8_t*) const override {
    for (size_t unit = begin; unit < end; ++unit) {
      uint8_t* y = *output_ + unit * row_size();
      size_t row = 0;
      if (!find_row(unit, &row)) {
        fill(y, row_size());
        continue;
      }
      fill(y, before_);
      std::memcpy(y + before_, *input_ + row * middle_, middle_);
      fill(y + before_ + middle_, after_);
    }
  }

 private:
  void fill(uint8_t* y, size_t bytes) const {
    if (real_ == 0) {
      std::memset(y, fill_, bytes);
    } else {
      std::fill_n(reinterpret_cast<float*>(y), bytes / sizeof(float), real_);
    }
  }

  size_t row_size() const { return before_ + middle_ + after_; }

  /// Finds the input's row under an output row; false in the padding.
  bool find_row(size_t unit, size_t* row) const {
    size_t scale = 1;
    for (size_t i = rank_; i-- > 0;) {
      // An index before the input wraps around and is thereby outside as well.
      const size_t index = unit % out_[i] - begin_[i];
      if (index >= in_[i]) return false;
      *row += index * scale;
      scale *= in_[i];
      unit /= out_[i];
    }
    return true;
  }

  uint8_t* const* input_;
  uint8_t* const* output_;
  size_t rank_ = 0;
  size_t begin_[kMaxRank] = {};
  size_t in_[kMaxRank] = {};
  size_t out_[kMaxRank] = {};
  size_t rows_ = 0;
  /// Bytes of a row.
  size_t before_ = 0;
  size_t middle_ = 0;
  size_t after_ = 0;
  uint8_t fill_ = 0;
  /// What float32 is filled with; 0 leaves it to `fill_`.
  float real_ = 0;
};

bool check_pair(const TensorView& input, const TensorView& output, std::string* error) {
  return check_tensor(input, error) && check_tensor(output, error) &&
         check_same_type(input, output, error);
}

bool fail_shapes(const TensorView& input, const TensorView& output, const char* what,
                 std::string* error) {
  return fail(error, {"input ", describe(input), " does not give output ", describe(output),
                      " by this ", what});
}

bool check_transpose(const TransposeParams& params, std::string* error) {
  const Shape& in = params.input.shape;
  const Shape& out = params.output.shape;
  if (!check_pair(params.input, params.output, error) ||
      !check_disjoint(params.input, params.output, error)) {
    return false;
  }
  bool fits = in.rank == out.rank && params.permutation.size() == in.rank;
  bool seen[kMaxRank] = {};
  for (size_t i = 0; fits && i < in.rank; ++i) {
    const uint32_t from = params.permutation[i];
    fits = from < in.rank && !seen[from] && out.dims[i] == in.dims[from];
    if (fits) seen[from] = true;
  }
  return fits || fail_shapes(params.input, params.output, "permutation", error);
}

bool check_pad(const PadParams& params, std::string* error) {
  const Shape& in = params.input.shape;
  const Shape& out = params.output.shape;
  if (!check_pair(params.input, params.output, error) ||
      !check_disjoint(params.input, params.output, error)) {
    return false;
  }
  bool fits = in.rank == out.rank && params.pads.size() == 2 * in.rank;
  for (size_t i = 0; fits && i < in.rank; ++i) {
    fits = in.dims[i] + params.pads[2 * i] + params.pads[2 * i + 1] == out.dims[i];
  }
  if (!fits) return fail_shapes(params.input, params.output, "padding", error);
  const bool codes = params.output.dtype == DType::kCode;
  if (codes ? params.value < -128 || params.value > 127 : params.value != 0) {
    return fail(error, {"output ", describe(params.output), " can't be filled with ",
                        std::to_string(params.value)});
  }
  if (params.output.dtype != DType::kFloat32 && params.real != 0) {
    return fail(error, {"output ", describe(params.output), " can't be filled with a float32"});
  }
  return true;
}

/// Returns whether the slice is where its elements lie in the input.
bool is_in_place(const SliceParams& params) {
  size_t begin[kMaxRank] = {};
  for (size_t i = 0; i < params.begin.size(); ++i) {
    begin[i] = static_cast<size_t>(params.begin[i]);
    if (params.step[i] != 1 && params.output.shape.dims[i] != 1) return false;
  }
  return lies_in_place(params.output, params.input, begin);
}

bool check_slice(const SliceParams& params, std::string* error) {
  const Shape& in = params.input.shape;
  const Shape& out = params.output.shape;
  if (!check_pair(without_gaps(params.input), without_gaps(params.output), error)) return false;
  bool fits =
      in.rank == out.rank && params.begin.size() == in.rank && params.step.size() == in.rank;
  for (size_t i = 0; fits && i < in.rank; ++i) {
    const int64_t begin = params.begin[i];
    const int64_t step = params.step[i];
    fits = begin >= 0 && begin < in.dims[i] && step != 0;
    if (!fits) break;
    // How often the step fits between the first index and the border that it goes towards.
    const int64_t steps = step > 0            ? (in.dims[i] - 1 - begin) / step
                          : step == INT64_MIN ? 0
                                              : begin / -step;
    fits = out.dims[i] - 1 <= steps;
  }
  if (!fits) return fail_shapes(params.input, params.output, "slice", error);
  return is_in_place(params) || (check_pair(params.input, params.output, error) &&
                                 check_disjoint(params.input, params.output, error));
}

}  // namespace

std::unique_ptr<Op> make_reshape(const ReshapeParams& params, const PlanTarget& target,
                                 std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  if (!check_pair(input, output, error)) return nullptr;
  if (element_count(input.shape) != element_count(output.shape)) {
    fail_shapes(input, output, "reshape", error);
    return nullptr;
  }
  if (!input.external && !output.external && *input.data == *output.data) {
    return std::make_unique<Nothing>();
  }
  if (!check_disjoint(input, output, error)) return nullptr;
  if (input.dtype == DType::kCode && input.external != output.external) {
    // The caller's codes are int8, whatever the plan's storage.
    CodeTable table;
    for (size_t i = 0; i < 256; ++i) {
      table.bytes[i] =
          static_cast<uint8_t>(i ^ static_cast<size_t>(storage_offset(target.storage)));
    }
    TensorView whole = input;
    whole.shape = output.shape;
    return make_table_lookup(whole, output, table, target, error);
  }
  View view;
  view.append(element_count(output.shape), 1);
  return std::make_unique<ViewMove>(input, output, view, 0, target);
}

std::unique_ptr<Op> make_transpose(const TransposeParams& params, const PlanTarget& target,
                                   std::string* error) {
  if (!check_transpose(params, error)) return nullptr;
  View view;
  for (size_t i = 0; i < params.permutation.size(); ++i) {
    view.append(static_cast<size_t>(params.output.shape.dims[i]),
                dense_step(params.input.shape, params.permutation[i]));
  }
  return std::make_unique<ViewMove>(params.input, params.output, view, 0, target);
}

std::unique_ptr<Op> make_expand(const ExpandParams& params, const PlanTarget& target,
                                std::string* error) {
  const Shape& in = params.input.shape;
  const Shape& out = params.output.shape;
  if (!check_pair(params.input, params.output, error) ||
      !check_disjoint(params.input, params.output, error)) {
    return nullptr;
  }
  bool fits = in.rank <= out.rank;
  View view;
  for (size_t i = 0; fits && i < out.rank; ++i) {
    const size_t missing = out.rank - in.rank;
    const bool repeats = i < missing || in.dims[i - missing] == 1;
    fits = repeats || in.dims[i - missing] == out.dims[i];
    view.append(static_cast<size_t>(out.dims[i]), repeats ? 0 : dense_step(in, i - missing));
  }
  if (!fits) {
    fail_shapes(params.input, params.output, "expansion", error);
    return nullptr;
  }
  return std::make_unique<ViewMove>(params.input, params.output, view, 0, target);
}

std::unique_ptr<Op> make_pad(const PadParams& params, const PlanTarget& target,
                             std::string* error) {
  if (!check_pad(params, error)) return nullptr;
  return std::make_unique<Pad>(params, target);
}

std::unique_ptr<Op> make_slice(const SliceParams& params, const PlanTarget& target,
                               std::string* error) {
  if (!check_slice(params, error)) return nullptr;
  if (is_in_place(params)) return std::make_unique<Nothing>();
  View view;
  size_t first = 0;
  for (size_t i = 0; i < params.begin.size(); ++i) {
    const ptrdiff_t step = dense_step(params.input.shape, i);
    const size_t size = static_cast<size_t>(params.output.shape.dims[i]);
    first += static_cast<size_t>(params.begin[i]) * static_cast<size_t>(step);
    // A dimension of one element is never stepped along, however large its step.
    view.append(size, size == 1 ? step : static_cast<ptrdiff_t>(params.step[i]) * step);
  }
  return std::make_unique<ViewMove>(params.input, params.output, view, first, target);
}

}  // namespace edgekit
