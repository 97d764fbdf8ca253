#include "ops/concat.h"

#include "kernels/elementwise/elementwise.h"
#include "ops/check.h"
#include "ops/code_table.h"
#include "ops/repeat_pixels.h"

namespace edgekit {
namespace {

bool changes_grid(const TensorView& input, const TensorView& output) {
  return input.dtype == DType::kCode &&
         (input.scale != output.scale || input.zero_point != output.zero_point);
}

/// Finds how often an input's pixels repeat; false where it does not fit beside the others.
bool find_part_repeats(const TensorView& input, const TensorView& output, size_t axis,
                       Repeats* repeats) {
  Shape expected = output.shape;
  if (input.shape.rank != expected.rank || input.dtype != output.dtype) return false;
  expected.dims[axis] = input.shape.dims[axis];
  if (same_shape(input.shape, expected)) return true;
  return axis == 3 && find_repeats(input.shape, expected, repeats);
}

/// Returns whether the input, whose first element goes to `place` along the axis, is there already.
bool is_in_place(const TensorView& input, const TensorView& output, size_t axis, size_t place) {
  Shape expected = output.shape;
  expected.dims[axis] = input.shape.dims[axis];
  size_t begin[kMaxRank] = {};
  begin[axis] = place;
  return same_shape(input.shape, expected) && !changes_grid(input, output) &&
         lies_in_place(input, output, begin);
}

/// Bytes of a pixel from which on a table pays pixel by pixel.
constexpr size_t kLargePixel = 64;

/// Units are the rows of images, else the positions of the dimensions before the axis: each input
/// adds one run of bytes to each pixel or position, unless it lies there already.
class Concat : public Op {
 public:
  Concat(const ConcatParams& params, const PlanTarget& target)
      : output_(params.output.data),
        outer_(element_count(params.output.shape, 0, params.axis)),
        row_stride_(row_stride(params.output, params.axis)),
        kernel_(select_kernel<LookupArgs>(target.isa, target.storage).run) {
    if (params.output.shape.rank == 4 && params.axis == 3) {
      columns_ = static_cast<size_t>(params.output.shape.dims[2]);
      outer_ /= columns_;
    }
    size_t offset = 0;
    size_t place = 0;
    for (const TensorView& input : params.inputs) {
      Part part;
      part.data = input.data;
      part.size = run_size(input, params.axis);
      part.stride = row_stride(input, params.axis);
      part.offset = offset;
      part.change = changes_grid(input, params.output);
      find_part_repeats(input, params.output, params.axis, &part.repeats);
      if (part.change) {
        part.table = requantize_table(input, params.output, -128, 127, target.storage);
      }
      // Rows of small pixels, or of pixels that repeat, are requantized at once.
      part.buffered = part.change && columns_ > 1 &&
                      (part.size < kLargePixel || part.repeats.rows * part.repeats.columns > 1);
      if (part.buffered) {
        part.scratch = scratch_size_;
        scratch_size_ += (count(part) * part.size + 63) / 64 * 64;
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
  size_t cost() const override { return outer_ * columns_ * moved_; }

  size_t scratch_size() const override { return scratch_size_; }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    // All parts of a row before the next row, while its lines are near.
    for (size_t unit = begin; unit < end; ++unit) {
      for (const Part& part : parts_) {
        if (part.buffered && (unit == begin || unit % part.repeats.rows == 0)) {
          requantize(part, unit, scratch + part.scratch, part.size);
        }
        fill(part, unit, scratch + part.scratch);
      }
    }
  }

 private:
  /// One input: bytes a run, from one run to the next, and where they go in the output's.
  struct Part {
    uint8_t* const* data;
    size_t size;
    size_t stride;
    size_t offset;
    Repeats repeats;
    bool change;
    CodeTable table;
    /// Whether its requantized codes go to a thread's scratch first, and where.
    bool buffered = false;
    size_t scratch = 0;
  };

  /// Runs of a part that come to one unit, once each.
  size_t count(const Part& part) const { return columns_ / part.repeats.columns; }

  /// Returns where a part's runs for a unit begin. An image has a whole number of the rows that
  /// repeat.
  const uint8_t* source(const Part& part, size_t unit) const {
    return *part.data + unit / part.repeats.rows * count(part) * part.stride;
  }

  /// Writes the codes of a part for a unit, on the output's grid, to `y`, one run y_stride bytes
  /// behind the other.
  void requantize(const Part& part, size_t unit, uint8_t* y, size_t y_stride) const {
    const uint8_t* x = source(part, unit);
    if (part.stride == part.size && y_stride == part.size) {
      return kernel_({count(part) * part.size, x, y, part.table.bytes});
    }
    for (size_t i = 0; i < count(part); ++i, x += part.stride, y += y_stride) {
      kernel_({part.size, x, y, part.table.bytes});
    }
  }

  /// Moves a part to a unit; `buffer` holds its requantized codes where it is buffered.
  void fill(const Part& part, size_t unit, const uint8_t* buffer) const {
    uint8_t* y = *output_ + unit * columns_ * row_stride_ + part.offset;
    if (part.change && !part.buffered) return requantize(part, unit, y, row_stride_);
    repeat_pixels({count(part), part.size, part.buffered ? buffer : source(part, unit),
                   part.buffered ? part.size : part.stride, part.repeats.columns, y, row_stride_});
  }

  static size_t run_size(const TensorView& tensor, size_t axis) {
    return element_count(tensor.shape, axis, tensor.shape.rank) * dtype_size(tensor.dtype);
  }

  static size_t row_stride(const TensorView& tensor, size_t axis) {
    return axis + 1 == tensor.shape.rank ? pixel_stride(tensor) : run_size(tensor, axis);
  }

  uint8_t* const* output_;
  size_t outer_;
  /// Runs of a unit.
  size_t columns_ = 1;
  size_t row_stride_;
  /// Bytes that are moved for each run of the output.
  size_t moved_ = 0;
  size_t scratch_size_ = 0;
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
    Repeats repeats;
    if (!find_part_repeats(input, output, params.axis, &repeats)) {
      return fail(error, {"input ", describe(input), " does not fit into output ", describe(output),
                          " along axis ", std::to_string(params.axis)});
    }
    joined += static_cast<uint64_t>(input.shape.dims[params.axis]);
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
