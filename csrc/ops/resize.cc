#include "ops/resize.h"

#include <algorithm>
#include <cstring>

#include "kernels/resize/resize.h"
#include "ops/check.h"

namespace edgekit {
namespace {

/// Units are output rows of all images.
class Resize : public Op {
 public:
  explicit Resize(const ResizeParams& params)
      : rows_(params.rows),
        columns_(params.columns),
        input_(params.input.data),
        output_(params.output.data),
        images_(static_cast<size_t>(params.input.shape.dims[0])),
        in_h_(static_cast<size_t>(params.input.shape.dims[1])),
        in_size_(element_count(params.input.shape, 2, 4) * dtype_size(params.input.dtype)),
        out_size_(element_count(params.output.shape, 2, 4) * dtype_size(params.output.dtype)) {}

  size_t units() const override { return images_ * rows_.size(); }
  size_t cost() const override { return units() * out_size_; }

  void run(size_t begin, size_t end, uint8_t*) const override {
    for (size_t unit = begin; unit < end; ++unit) {
      const size_t row = unit % rows_.size();
      uint8_t* y = *output_ + unit * out_size_;
      if (unit > begin && row > 0 && repeats(row)) {
        std::memcpy(y, y - out_size_, out_size_);
      } else {
        run_row(*input_ + unit / rows_.size() * in_h_ * in_size_, row, y);
      }
    }
  }

 protected:
  /// Whether output row `row` equals the one before it.
  virtual bool repeats(size_t row) const = 0;
  /// Makes output row `row` of the image that begins at x.
  virtual void run_row(const uint8_t* x, size_t row, uint8_t* y) const = 0;

  std::vector<uint32_t> rows_;
  std::vector<uint32_t> columns_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  size_t images_;
  size_t in_h_;
  /// Bytes of a row.
  size_t in_size_;
  size_t out_size_;
};

class Nearest : public Resize {
 public:
  Nearest(const ResizeParams& params, const PlanTarget& target)
      : Resize(params),
        size_(static_cast<size_t>(params.input.shape.dims[3]) * dtype_size(params.input.dtype)),
        kernel_(select_kernel<NearestRowArgs>(target.isa, target.storage).run) {}

 private:
  bool repeats(size_t row) const override { return rows_[row] == rows_[row - 1]; }

  void run_row(const uint8_t* x, size_t row, uint8_t* y) const override {
    kernel_({columns_.size(), size_, x + rows_[row] * in_size_, columns_.data(), y});
  }

  size_t size_;
  void (*kernel_)(const NearestRowArgs&);
};

class Linear : public Resize {
 public:
  Linear(const ResizeParams& params, const PlanTarget& target)
      : Resize(params),
        row_weights_(params.row_weights),
        column_weights_(params.column_weights),
        kernel_(select_kernel<LinearRowArgs>(target.isa, target.storage).run) {
    const int32_t offset = storage_offset(target.storage);
    args_.pixels = columns_.size();
    args_.channels = static_cast<size_t>(params.input.shape.dims[3]);
    args_.in_width = static_cast<size_t>(params.input.shape.dims[2]);
    args_.columns = columns_.data();
    args_.weights = column_weights_.data();
    // A product with a power of two is exact.
    args_.multiplier = params.input.scale / params.output.scale / (kResizeOne * kResizeOne);
    args_.x_zero_point = params.input.zero_point + offset;
    args_.zero_point = params.output.zero_point + offset;
    args_.lo = static_cast<float>(params.lo - params.output.zero_point);
    args_.hi = static_cast<float>(params.hi - params.output.zero_point);
  }

 private:
  bool repeats(size_t row) const override {
    return rows_[row] == rows_[row - 1] && row_weights_[row] == row_weights_[row - 1];
  }

  void run_row(const uint8_t* x, size_t row, uint8_t* y) const override {
    LinearRowArgs args = args_;
    const size_t below = std::min(size_t{rows_[row]} + 1, in_h_ - 1);
    args.top = x + rows_[row] * in_size_;
    args.bottom = x + below * in_size_;
    args.row_weight = row_weights_[row];
    args.y = y;
    kernel_(args);
  }

  std::vector<uint16_t> row_weights_;
  std::vector<uint16_t> column_weights_;
  LinearRowArgs args_ = {};
  void (*kernel_)(const LinearRowArgs&);
};

/// Checks one axis: as many places as the output has, each in the input, and weights up to 1.
bool check_axis(const char* axis, const std::vector<uint32_t>& places,
                const std::vector<uint16_t>& weights, int64_t in, int64_t out, bool linear,
                std::string* error) {
  bool fits =
      places.size() == static_cast<uint64_t>(out) && weights.size() == (linear ? places.size() : 0);
  for (const uint32_t place : places) fits = fits && int64_t{place} < in;
  for (const uint16_t weight : weights) fits = fits && weight <= kResizeOne;
  return fits || fail(error, {"the ", axis, " do not fit a resize from ", std::to_string(in),
                              " to ", std::to_string(out)});
}

bool check_params(const ResizeParams& params, bool linear, std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  if (!check_tensor(input, error) || !check_tensor(output, error) ||
      !check_bounds(params.lo, params.hi, error)) {
    return false;
  }
  const int64_t* in = input.shape.dims;
  const int64_t* out = output.shape.dims;
  if (input.shape.rank != 4 || output.shape.rank != 4 || in[0] != out[0] || in[3] != out[3]) {
    return fail(error, {"input ", describe(input), " and output ", describe(output),
                        " must be [n, h, w, c] of the same n and c"});
  }
  if (linear ? !check_codes(input, error) || !check_codes(output, error)
             : !check_same_type(input, output, error)) {
    return false;
  }
  return check_readable_behind(input, error) && check_disjoint(input, output, error) &&
         check_axis("rows", params.rows, params.row_weights, in[1], out[1], linear, error) &&
         check_axis("columns", params.columns, params.column_weights, in[2], out[2], linear, error);
}

}  // namespace

std::unique_ptr<Op> make_resize(const ResizeParams& params, const PlanTarget& target,
                                std::string* error) {
  const bool linear = !params.row_weights.empty() || !params.column_weights.empty();
  if (!check_params(params, linear, error)) return nullptr;
  if (linear) return std::make_unique<Linear>(params, target);
  return std::make_unique<Nearest>(params, target);
}

}  // namespace edgekit
