#include "runtime/codes_depthwise.h"

#include <algorithm>

namespace edgekit {
namespace {

// What a kernel may read behind a tensor.
constexpr size_t kSlack = 64;

/// Returns the windows that fit an extent, 0 where none does.
size_t positions(size_t extent, size_t kernel, size_t stride, size_t dilation, size_t pads) {
  if (kernel == 0 || stride == 0) return 0;
  const size_t reach = (kernel - 1) * dilation + 1;
  return extent + pads < reach ? 0 : (extent + pads - reach) / stride + 1;
}

Shape image_shape(size_t h, size_t w, size_t channels) {
  Shape shape;
  shape.rank = 4;
  shape.dims[0] = 1;
  shape.dims[1] = static_cast<int64_t>(h);
  shape.dims[2] = static_cast<int64_t>(w);
  shape.dims[3] = static_cast<int64_t>(channels);
  return shape;
}

}  // namespace

bool PreparedDepthwise::init(const DepthwiseKernel& kernel, const CodesDepthwise& problem,
                             std::string* error) {
  const Window& window = problem.window;
  const size_t taps = size_t{window.kernel_h} * window.kernel_w;
  out_h_ = positions(problem.h, window.kernel_h, window.stride_h, window.dilation_h,
                     size_t{window.pad_top} + window.pad_bottom);
  out_w_ = positions(problem.w, window.kernel_w, window.stride_w, window.dilation_w,
                     size_t{window.pad_left} + window.pad_right);
  const size_t weights_size =
      packed_depthwise_size(kernel, problem.channels, window.kernel_h, window.kernel_w);
  x_ = make_aligned_bytes(problem.h * problem.w * problem.channels + kSlack);
  y_ = make_aligned_bytes(out_h_ * out_w_ * problem.channels + kSlack);
  weights_ = make_aligned_bytes(weights_size);
  bias_ = make_aligned_bytes(problem.channels * sizeof(int32_t));
  scale_ = make_aligned_bytes(problem.channels * sizeof(float));
  if (!x_ || !y_ || !weights_ || !bias_ || !scale_) {
    *error = "out of memory";
    return false;
  }
  x_data_ = x_.get();
  y_data_ = y_.get();
  pack_depthwise(kernel, problem.weights, problem.channels, window.kernel_h, window.kernel_w,
                 reinterpret_cast<int8_t*>(weights_.get()));
  const int32_t stored_zero = problem.x_zero_point + storage_offset(kernel.storage);
  auto* bias = reinterpret_cast<int32_t*>(bias_.get());
  std::copy_n(problem.bias, problem.channels, bias);
  std::copy_n(problem.scale, problem.channels, reinterpret_cast<float*>(scale_.get()));
  for (size_t i = 0; i < problem.channels * taps; ++i) {
    bias[i / taps] -= stored_zero * problem.weights[i];
  }

  DepthwiseParams params;
  params.input.name = "x";
  params.input.data = &x_data_;
  params.input.shape = image_shape(problem.h, problem.w, problem.channels);
  params.input.zero_point = problem.x_zero_point;
  params.output.name = "y";
  params.output.data = &y_data_;
  params.output.shape = image_shape(out_h_, out_w_, problem.channels);
  params.output.zero_point = problem.zero_point;
  params.kernel = kernel.name;
  params.weights = {weights_.get(), weights_size};
  params.bias = {bias_.get(), problem.channels * sizeof(int32_t)};
  params.multiplier = {scale_.get(), problem.channels * sizeof(float)};
  params.window = window;
  params.lo = problem.lo;
  params.hi = problem.hi;
  op_ = make_depthwise(params, {kernel.isa, kernel.storage}, error);
  if (op_ == nullptr) return false;
  scratch_ = make_aligned_bytes(op_->scratch_size());
  if (!scratch_) *error = "out of memory";
  return scratch_ != nullptr;
}

}  // namespace edgekit
