#include "ops/float_pool.h"

#include "kernels/float_vector/float_vector.h"
#include "ops/check.h"
#include "ops/check_floats.h"

namespace edgekit {
namespace {

constexpr size_t kMaxTaps = size_t{1} << 20u;

/// Units are output pixels. Scratch: pointers to a window's elements.
class FloatPool : public Op {
 public:
  FloatPool(const FloatPoolParams& params, const PlanTarget& target)
      : window_(params.window),
        reduction_(params.kind == PoolKind::kMax ? FloatReduction::kMax : FloatReduction::kMean),
        count_include_pad_(params.count_include_pad),
        input_(params.input.data),
        output_(params.output.data),
        in_h_(params.input.shape.dims[1]),
        in_w_(params.input.shape.dims[2]),
        channels_(static_cast<size_t>(params.input.shape.dims[3])),
        out_h_(static_cast<size_t>(params.output.shape.dims[1])),
        out_w_(static_cast<size_t>(params.output.shape.dims[2])),
        pixels_(element_count(params.output.shape, 0, 3)),
        kernel_(select_float_vector(target.isa).window) {}

  size_t units() const override { return pixels_; }
  size_t cost() const override { return pixels_ * channels_ * taps(); }
  size_t scratch_size() const override { return taps() * sizeof(float*); }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    auto* pointers = reinterpret_cast<const float**>(scratch);
    for (size_t pixel = begin; pixel < end; ++pixel) {
      const size_t count = gather(pixel, pointers);
      const size_t divisor = count_include_pad_ ? taps() : count;
      kernel_({reduction_, static_cast<float>(divisor), count, pointers, channels_,
               reinterpret_cast<float*>(*output_) + pixel * channels_});
    }
  }

 private:
  size_t taps() const { return size_t{window_.kernel_h} * window_.kernel_w; }

  /// Finds the elements of a pixel's window that lie in the image; returns their number.
  size_t gather(size_t pixel, const float** pointers) const {
    const auto row = static_cast<int64_t>(pixel / out_w_ % out_h_);
    const auto column = static_cast<int64_t>(pixel % out_w_);
    const size_t image = pixel / out_w_ / out_h_;
    const float* x = reinterpret_cast<const float*>(*input_) +
                     image * static_cast<size_t>(in_h_ * in_w_) * channels_;
    size_t count = 0;
    for (int64_t r = 0; r < window_.kernel_h; ++r) {
      const int64_t y = row * window_.stride_h + r * window_.dilation_h - window_.pad_top;
      if (y < 0 || y >= in_h_) continue;
      for (int64_t s = 0; s < window_.kernel_w; ++s) {
        const int64_t at = column * window_.stride_w + s * window_.dilation_w - window_.pad_left;
        if (at < 0 || at >= in_w_) continue;
        pointers[count++] = x + static_cast<size_t>(y * in_w_ + at) * channels_;
      }
    }
    return count;
  }

  Window window_;
  FloatReduction reduction_;
  bool count_include_pad_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  int64_t in_h_;
  int64_t in_w_;
  size_t channels_;
  size_t out_h_;
  size_t out_w_;
  size_t pixels_;
  void (*kernel_)(const FloatWindowArgs&);
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

}  // namespace

std::unique_ptr<Op> make_float_pool(const FloatPoolParams& params, const PlanTarget& target,
                                    std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  const Window& w = params.window;
  if (!check_float_images(input, output, error) || !check_window(w, input, output, error))
    return nullptr;
  if (params.kind > PoolKind::kAverage || uint64_t{w.kernel_h} * w.kernel_w > kMaxTaps) {
    fail(error, {"the kind of pool is unknown, or its window has more than 2^20 elements"});
    return nullptr;
  }
  const int64_t* in = input.shape.dims;
  const int64_t* out = output.shape.dims;
  if (covers_padding_only(w.kernel_h, w.stride_h, w.dilation_h, w.pad_top, in[1], out[1]) ||
      covers_padding_only(w.kernel_w, w.stride_w, w.dilation_w, w.pad_left, in[2], out[2])) {
    fail(error, {"a window covers nothing but padding"});
    return nullptr;
  }
  return std::make_unique<FloatPool>(params, target);
}

}  // namespace edgekit
