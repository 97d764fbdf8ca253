#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/gemm/gemm.h"
#include "ops/check.h"
#include "ops/check_wide.h"
#include "ops/round_up.h"
#include "ops/wide_layer.h"

namespace edgekit {
namespace {

/// Output pixels whose patches are gathered before they are multiplied.
constexpr size_t kBlockRows = 48;

/// A layer as a product of patches, in two halves: the codes' upper bytes, which are signed, and
/// their lower bytes, each by a kernel for int8. Both sums are exact in int32, and
/// `256 * upper + lower` in float64.
///
/// Units are output pixels. Scratch holds the two bytes of the codes of a block, then its two sums.
class WideConv : public Op {
 public:
  WideConv(const WideLayerParams& params, const GemmKernel& kernel, const WideShape& shape,
           const PlanTarget& target)
      : kernel_(kernel),
        shape_(shape),
        finish_(wide_finish(params, shape.n)),
        wide_(select_wide(target.isa)),
        weights_(reinterpret_cast<const int8_t*>(params.weights.data)),
        input_(params.input.data),
        output_(params.output.data),
        input_step_(params.input_step),
        upper_offset_(target.storage == Storage::kU8 ? 128 : 0),
        lower_offset_(target.storage == Storage::kU8 ? 0 : -128) {
    const auto* sums = reinterpret_cast<const int32_t*>(params.sums.data);
    const size_t columns = round_up(shape.n, kernel.nr);
    upper_bias_.resize(columns);
    lower_bias_.resize(columns);
    for (size_t o = 0; o < columns; ++o) {
      upper_bias_[o] = -upper_offset_ * sums[o];
      lower_bias_[o] = -lower_offset_ * sums[o];
    }
    scale_.assign(columns, 1.0F);
    is_pointwise_ = shape.taps() == 1 && shape.in_h == shape.out_h && shape.in_w == shape.out_w &&
                    shape.window.pad_top == 0 && shape.window.pad_left == 0;
    block_ = std::max(kBlockRows / kernel.mr, size_t{1}) * kernel.mr;
    const size_t rows = std::min(block_, shape.pixels());
    codes_size_ = round_up(rows * shape.depth() + kLineSize, kLineSize);
    sums_size_ = round_up(rows * shape.n * sizeof(int32_t), kLineSize);
  }

  size_t units() const override { return shape_.pixels(); }
  size_t granule() const override { return kernel_.mr; }
  size_t cost() const override { return 2 * shape_.pixels() * shape_.depth() * shape_.n; }
  size_t scratch_size() const override { return 2 * (codes_size_ + sums_size_); }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    uint8_t* upper = scratch;
    uint8_t* lower = scratch + codes_size_;
    auto* upper_sums = reinterpret_cast<int32_t*>(scratch + 2 * codes_size_);
    auto* lower_sums = reinterpret_cast<int32_t*>(scratch + 2 * codes_size_ + sums_size_);
    for (size_t first = begin; first < end; first += block_) {
      const size_t count = std::min(block_, end - first);
      const size_t depth = shape_.depth();
      if (is_pointwise_) {
        const float* x = reinterpret_cast<const float*>(*input_) + first * depth;
        split(x, count * depth, upper, lower);
      } else {
        for (size_t i = 0; i < count; ++i) gather(first + i, upper + i * depth, lower + i * depth);
      }
      multiply(upper, count, upper_bias_.data(), upper_sums);
      multiply(lower, count, lower_bias_.data(), lower_sums);
      float* y = reinterpret_cast<float*>(*output_) + first * shape_.n;
      WideFinishArgs args = finish_;
      for (size_t i = 0; i < count; ++i) {
        args.upper = upper_sums + i * shape_.n;
        args.lower = lower_sums + i * shape_.n;
        args.y = y + i * shape_.n;
        wide_.finish(args);
      }
    }
  }

 private:
  /// Writes the bytes of the codes of `count` floats.
  void split(const float* x, size_t count, uint8_t* upper, uint8_t* lower) const {
    wide_.bytes({count, x, input_step_, upper_offset_, lower_offset_, upper, lower});
  }

  /// Writes the bytes of the codes under the window of an output pixel; those of padding are 0.
  void gather(size_t pixel, uint8_t* upper, uint8_t* lower) const {
    const WideShape& s = shape_;
    const float* input = reinterpret_cast<const float*>(*input_);
    const size_t column = pixel % s.out_w;
    const size_t row = pixel / s.out_w % s.out_h;
    const float* image = input + pixel / s.out_w / s.out_h * s.in_h * s.in_w * s.c;
    for (size_t r = 0; r < s.window.kernel_h; ++r) {
      // A place above or left of the image wraps around and is thereby outside as well.
      const size_t y = row * s.window.stride_h + r * s.window.dilation_h - s.window.pad_top;
      for (size_t t = 0; t < s.window.kernel_w; ++t, upper += s.c, lower += s.c) {
        const size_t x = column * s.window.stride_w + t * s.window.dilation_w - s.window.pad_left;
        if (y < s.in_h && x < s.in_w) {
          split(image + (y * s.in_w + x) * s.c, s.c, upper, lower);
        } else {
          std::memset(upper, upper_offset_, s.c);
          std::memset(lower, lower_offset_, s.c);
        }
      }
    }
  }

  void multiply(const uint8_t* codes, size_t count, const int32_t* bias, int32_t* sums) const {
    GemmArgs args = {};
    args.m = count;
    args.n = shape_.n;
    args.k = shape_.depth();
    args.taps = 1;
    args.a = codes;
    args.a_stride = shape_.depth();
    args.w = weights_;
    args.bias = bias;
    args.requantize.scale = scale_.data();
    args.output = Output::kInt32;
    args.y = sums;
    args.y_stride = shape_.n * sizeof(int32_t);
    kernel_.run(args);
  }

  const GemmKernel& kernel_;
  WideShape shape_;
  WideFinishArgs finish_;
  const WideKernels& wide_;
  const int8_t* weights_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  float input_step_;
  int32_t upper_offset_;
  int32_t lower_offset_;
  std::vector<int32_t> upper_bias_;
  std::vector<int32_t> lower_bias_;
  std::vector<float> scale_;
  /// Whether patches are the input's pixels, side by side.
  bool is_pointwise_ = false;
  size_t block_ = 0;
  size_t codes_size_ = 0;
  size_t sums_size_ = 0;
};

}  // namespace

std::unique_ptr<Op> make_wide_conv(const WideLayerParams& params, const PlanTarget& target,
                                   std::string* error) {
  const GemmKernel* kernel = find_gemm_kernel(params.kernel);
  WideShape shape;
  if (kernel == nullptr) {
    fail(error, {"kernel '", params.kernel, "' is unknown"});
    return nullptr;
  }
  if (!check_kernel(kernel->name, kernel->isa, kernel->storage, kernel->run != nullptr, target,
                    error) ||
      !check_wide(params, &shape, error)) {
    return nullptr;
  }
  if (kernel->bits != 8 || kernel->exactness != Exactness::kAlways) {
    fail(error, {"kernel '", kernel->name, "' does not add exactly what is in its codes' bytes"});
    return nullptr;
  }
  // A sum of 255 * 127 for each element of a patch must stay in int32, with the offset's share.
  constexpr size_t kMostDepth = (size_t{1} << 31) / (size_t{2} * 255 * 127);
  if (shape.depth() >= kMostDepth ||
      !multiply({shape.n + kernel->nr, shape.depth() + kernel->kr, kBlockRows + kernel->mr},
                nullptr)) {
    fail(error, {"the weights are too large"});
    return nullptr;
  }
  if (!check_blob(params.weights, packed_gemm_size(*kernel, shape.n, shape.depth(), 1), 1,
                  "the weights", error) ||
      !check_blob(params.sums, round_up(shape.n, kernel->nr), sizeof(int32_t),
                  "the sums of weights", error)) {
    return nullptr;
  }
  constexpr int32_t kMostSum = 127 * static_cast<int32_t>(kMostDepth);
  for (size_t o = 0; o < round_up(shape.n, kernel->nr); ++o) {
    const int32_t sum = reinterpret_cast<const int32_t*>(params.sums.data)[o];
    if (sum > kMostSum || sum < -kMostSum) {
      fail(error, {"a sum of weights is larger than they can be"});
      return nullptr;
    }
  }
  return std::make_unique<WideConv>(params, *kernel, shape, target);
}

}  // namespace edgekit
