#include "ops/pool.h"

#include <vector>

#include "kernels/pool/pool.h"
#include "ops/check.h"

namespace edgekit {
namespace {

/// Keeps a sum of stored values, 255 each, in int32 and the table of multipliers small.
constexpr size_t kMaxTaps = size_t{1} << 20u;

/// Units are output rows of all images.
class Pool : public Op {
 public:
  explicit Pool(const PoolParams& params)
      : input_(params.input.data),
        output_(params.output.data),
        images_(static_cast<size_t>(params.input.shape.dims[0])),
        in_h_(static_cast<size_t>(params.input.shape.dims[1])),
        out_h_(static_cast<size_t>(params.output.shape.dims[1])),
        shape_(params.window) {
    window_.channels = static_cast<size_t>(params.input.shape.dims[3]);
    window_.in_width = static_cast<size_t>(params.input.shape.dims[2]);
    window_.out_width = static_cast<size_t>(params.output.shape.dims[2]);
    window_.kernel_w = shape_.kernel_w;
    window_.stride_w = shape_.stride_w;
    window_.dilation_w = shape_.dilation_w;
    window_.pad_left = shape_.pad_left;
  }

  size_t units() const override { return images_ * out_h_; }
  size_t cost() const override {
    return units() * window_.out_width * window_.channels * shape_.kernel_h * shape_.kernel_w;
  }
  size_t scratch_size() const override { return shape_.kernel_h * sizeof(uint8_t*); }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    const uint8_t** rows = reinterpret_cast<const uint8_t**>(scratch);
    const size_t row_size = window_.in_width * window_.channels;
    for (size_t unit = begin; unit < end; ++unit) {
      const uint8_t* image = *input_ + unit / out_h_ * in_h_ * row_size;
      // A row above the image wraps around and is thereby outside as well.
      const size_t top = unit % out_h_ * shape_.stride_h - shape_.pad_top;
      PoolWindow window = window_;
      window.rows = rows;
      window.row_count = 0;
      for (size_t r = 0; r < shape_.kernel_h; ++r) {
        const size_t y = top + r * shape_.dilation_h;
        if (y < in_h_) rows[window.row_count++] = image + y * row_size;
      }
      window.y = *output_ + unit * window_.out_width * window_.channels;
      run_row(window);
    }
  }

 protected:
  virtual void run_row(const PoolWindow& window) const = 0;

 private:
  uint8_t* const* input_;
  uint8_t* const* output_;
  size_t images_;
  size_t in_h_;
  size_t out_h_;
  Window shape_;
  PoolWindow window_ = {};
};

class MaxPool : public Pool {
 public:
  MaxPool(const PoolParams& params, const PlanTarget& target)
      : Pool(params),
        lo_(params.lo + storage_offset(target.storage)),
        hi_(params.hi + storage_offset(target.storage)),
        kernel_(select_kernel<MaxPoolArgs>(target.isa, target.storage).run) {}

 private:
  void run_row(const PoolWindow& window) const override { kernel_({window, lo_, hi_}); }

  int32_t lo_;
  int32_t hi_;
  void (*kernel_)(const MaxPoolArgs&);
};

class AveragePool : public Pool {
 public:
  AveragePool(const PoolParams& params, const PlanTarget& target)
      : Pool(params), kernel_(select_kernel<AveragePoolArgs>(target.isa, target.storage).run) {
    const size_t taps = size_t{params.window.kernel_h} * params.window.kernel_w;
    multiplier_.assign(taps + 1, 0.0f);
    for (size_t count = 1; count <= taps; ++count) {
      multiplier_[count] = params.input.scale / (params.output.scale * static_cast<float>(count));
    }
    const int32_t offset = storage_offset(target.storage);
    args_.multiplier = multiplier_.data();
    args_.fixed_count = params.count_include_pad ? taps : 0;
    args_.x_zero_point = params.input.zero_point + offset;
    args_.zero_point = params.output.zero_point + offset;
    args_.lo = static_cast<float>(params.lo - params.output.zero_point);
    args_.hi = static_cast<float>(params.hi - params.output.zero_point);
  }

 private:
  void run_row(const PoolWindow& window) const override {
    AveragePoolArgs args = args_;
    args.window = window;
    kernel_(args);
  }

  /// By number of elements.
  std::vector<float> multiplier_;
  AveragePoolArgs args_ = {};
  void (*kernel_)(const AveragePoolArgs&);
};

/// Returns whether some position along an axis covers nothing but padding.
bool covers_padding_only(uint32_t kernel, uint32_t stride, uint32_t dilation, uint32_t pad,
                         int64_t in, int64_t out) {
  for (int64_t position = 0; position < out; ++position) {
    const int64_t first = position * stride - pad;
    // The first tap that is not before the image.
    const int64_t tap = first >= 0 ? 0 : (-first + dilation - 1) / dilation;
    if (tap >= kernel || first + tap * dilation >= in) return true;
  }
  return false;
}

bool check_params(const PoolParams& params, std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  const Window& window = params.window;
  if (!check_image(input, error) || !check_image(output, error) ||
      !check_bounds(params.lo, params.hi, error) || !check_window(window, input, output, error) ||
      !check_disjoint(input, output, error)) {
    return false;
  }
  const int64_t* in = input.shape.dims;
  const int64_t* out = output.shape.dims;
  if (in[3] != out[3]) {
    return fail(error, {"input ", describe(input), " and output ", describe(output),
                        " have different channels"});
  }
  if (uint64_t{window.kernel_h} * window.kernel_w > kMaxTaps) {
    return fail(error, {"the window has more than 2^20 elements"});
  }
  if (covers_padding_only(window.kernel_h, window.stride_h, window.dilation_h, window.pad_top,
                          in[1], out[1]) ||
      covers_padding_only(window.kernel_w, window.stride_w, window.dilation_w, window.pad_left,
                          in[2], out[2])) {
    return fail(error, {"a window covers nothing but padding"});
  }
  return params.kind != PoolKind::kMax || check_same_type(input, output, error);
}

}  // namespace

std::unique_ptr<Op> make_pool(const PoolParams& params, const PlanTarget& target,
                              std::string* error) {
  if (!check_params(params, error)) return nullptr;
  switch (params.kind) {
    case PoolKind::kMax:
      return std::make_unique<MaxPool>(params, target);
    case PoolKind::kAverage:
      return std::make_unique<AveragePool>(params, target);
  }
  fail(error, {"the kind of pool is unknown"});
  return nullptr;
}

}  // namespace edgekit
