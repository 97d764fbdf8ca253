#include "ops/concat.h"

#include <cstring>

#include "kernels/elementwise/elementwise.h"
#include "ops/check.h"
#include "ops/code_table.h"

namespace edgekit {
namespace {

bool changes_grid(const TensorView& input, const TensorView& output) {
  return input.dtype == DType::kCode &&
         (input.scale != output.scale || input.zero_point != output.zero_point);
}

/// Returns whether the input, whose first element goes to `place` along the axis, is there already.
bool is_in_place(const TensorView& input, const TensorView& output, size_t axis, size_t place) {
  size_t begin[kMaxRank] = {};
  begin[axis] = place;
  return !changes_grid(input, output) && lies_in_place(input, output, begin);
}

/// Units are the positions of the dimensions before the axis: each input adds one run of bytes to
/// each, unless it lies there already.
class Concat : public Op {
 public:
  Concat(const ConcatParams& params, const PlanTarget& target)
      : output_(params.output.data),
        outer_(element_count(params.output.shape, 0, params.axis)),
        row_stride_(row_stride(params.output, params.axis)),
        kernel_(select_kernel<LookupArgs>(target.isa, target.storage).run) {
    size_t offset = 0;
    size_t place = 0;
    for (const TensorView& input : params.inputs) {
      Part part;
      part.data = input.data;
      part.size = run_size(input, params.axis);
      part.stride = row_stride(input, params.axis);
      part.offset = offset;
      part.change = changes_grid(input, params.output);
      if (part.change) {
        part.table = requantize_table(input, params.output, -128, 127, target.storage);
      }
      offset += part.size;
      if (!is_in_place(input, params.output, params.axis, place)) {
        moved_ += part.size;
        parts_.push_back(part);
      }
      place += static_cast<size_t>(input.shape.dims[params.axis]);
    }
  }

  size_t units() const override { return parts_.empty() ? 0 : outer_; }
  size_t cost() const override { return outer_ * moved_; }

  void run(size_t begin, size_t end, uint8_t*) const override {
    for (const Part& part : parts_) {
      for (size_t unit = begin; unit < end; ++unit) {
        const uint8_t* x = *part.data + unit * part.stride;
        uint8_t* y = *output_ + unit * row_stride_ + part.offset;
        if (part.change) {
          kernel_({part.size, x, y, part.table.bytes});
        } else {
          std::memcpy(y, x, part.size);
        }
      }
    }
  }

 private:
  /// One input: bytes a unit, from one unit to the next, and where they go in the output's.
  struct Part {
    uint8_t* const* data;
    size_t size;
    size_t stride;
    size_t offset;
    bool change;
    CodeTable table;
  };

  static size_t run_size(const TensorView& tensor, size_t axis) {
    return element_count(tensor.shape, axis, tensor.shape.rank) * dtype_size(tensor.dtype);
  }

  static size_t row_stride(const TensorView& tensor, size_t axis) {
    return axis + 1 == tensor.shape.rank ? pixel_stride(tensor) : run_size(tensor, axis);
  }

  uint8_t* const* output_;
  size_t outer_;
  size_t row_stride_;
  /// Bytes that a unit moves.
  size_t moved_ = 0;
  std::vector<Part> parts_;
  void (*kernel_)(const LookupArgs&);
};

bool check_params(const ConcatParams& params, std::string* error) {
  const TensorView& output = params.output;
  if (!check_tensor(without_gaps(output), error)) return false;
  if (params.inputs.empty()) return fail(error, {"there is nothing to join"});
  if (params.axis >= output.shape.rank) {
    return fail(error,
                {"axis ", std::to_string(params.axis), " is outside output ", describe(output)});
  }
  const bool last = params.axis + 1 == output.shape.rank;
  if (!last && !check_tensor(output, error)) return false;
  uint64_t joined = 0;
  for (const TensorView& input : params.inputs) {
    if (!check_tensor(last ? without_gaps(input) : input, error)) return false;
    Shape expected = output.shape;
    if (input.shape.rank == output.shape.rank) {
      expected.dims[params.axis] = input.shape.dims[params.axis];
      joined += static_cast<uint64_t>(expected.dims[params.axis]);
    }
    if (input.dtype != output.dtype || !same_shape(input.shape, expected)) {
      return fail(error, {"input ", describe(input), " does not fit into output ", describe(output),
                          " along axis ", std::to_string(params.axis)});
    }
    const size_t place =
        static_cast<size_t>(joined) - static_cast<size_t>(input.shape.dims[params.axis]);
    if (!is_in_place(input, output, params.axis, place) && !check_disjoint(input, output, error)) {
      return false;
    }
  }
  if (joined != static_cast<uint64_t>(output.shape.dims[params.axis])) {
    return fail(error, {"the inputs have ", std::to_string(joined), " along axis ",
                        std::to_string(params.axis), " where output ", describe(output),
                        " has another number"});
  }
  return true;
}

}  // namespace

std::unique_ptr<Op> make_concat(const ConcatParams& params, const PlanTarget& target,
                                std::string* error) {
  if (!check_params(params, error)) return nullptr;
  return std::make_unique<Concat>(params, target);
}

}  // namespace edgekit
