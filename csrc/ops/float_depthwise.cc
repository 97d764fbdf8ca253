#include "kernels/float_depthwise/float_depthwise.h"

#include <utility>
#include <vector>

#include "ops/check.h"
#include "ops/check_floats.h"
#include "ops/float_conv.h"
#include "ops/row_blocks.h"

namespace edgekit {
namespace {

/// Output rows whose row pointers are gathered at a time; no more than an image has.
constexpr size_t kBlockRows = 8;

/// Units are output rows of all images.
class FloatDepthwise : public Op {
 public:
  FloatDepthwise(const FloatDepthwiseParams& params, const FloatDepthwiseKernel& kernel,
                 OwnFloats weights)
      : kernel_(kernel),
        weights_(std::move(weights)),
        input_(params.input.data),
        output_(params.output.data),
        residual_(params.epilogue.adds ? params.epilogue.residual.data : nullptr),
        blocks_(params.window, params.input.shape, params.output.shape, kBlockRows),
        bias_(padded_floats(params.epilogue.bias, kernel.cr)) {
    const Window& window = params.window;
    args_.channels = static_cast<size_t>(params.input.shape.dims[3]);
    args_.in_width = static_cast<size_t>(params.input.shape.dims[2]);
    args_.out_width = static_cast<size_t>(params.output.shape.dims[2]);
    args_.kernel_h = window.kernel_h;
    args_.kernel_w = window.kernel_w;
    args_.stride_h = window.stride_h;
    args_.stride_w = window.stride_w;
    args_.dilation_h = window.dilation_h;
    args_.dilation_w = window.dilation_w;
    args_.pad_left = window.pad_left;
    args_.w = weights_.data();
    args_.bias = bias_.data();
    args_.lo = params.epilogue.lo;
    args_.hi = params.epilogue.hi;
    args_.y_stride = args_.out_width * args_.channels * sizeof(float);
    args_.residual_stride = args_.y_stride;
    zeros_.assign(args_.in_width * args_.channels, 0.0F);
  }

  size_t units() const override { return blocks_.units(); }
  bool in_rows() const override { return true; }
  size_t cost() const override {
    return units() * args_.out_width * args_.channels * args_.kernel_h * args_.kernel_w;
  }
  size_t scratch_size() const override { return blocks_.most_input_rows() * sizeof(float*); }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    blocks_.for_each(begin, end, [&](size_t first, size_t count) {
      run_rows(first, count, reinterpret_cast<const float**>(scratch));
    });
  }

 private:
  void run_rows(size_t first, size_t count, const float** rows) const {
    const size_t row_size = args_.in_width * args_.channels;
    const float* image =
        reinterpret_cast<const float*>(*input_) + blocks_.image_row(first) * row_size;
    const size_t top = blocks_.top(first);
    for (size_t i = 0; i < blocks_.input_rows(count); ++i) {
      rows[i] = top + i < blocks_.in_h() ? image + (top + i) * row_size : zeros_.data();
    }
    const size_t offset = first * args_.out_width * args_.channels;
    FloatDepthwiseArgs args = args_;
    args.out_rows = count;
    args.rows = rows;
    args.zero = zeros_.data();
    if (residual_ != nullptr) args.residual = reinterpret_cast<const float*>(*residual_) + offset;
    args.y = reinterpret_cast<float*>(*output_) + offset;
    kernel_.run(args);
  }

  const FloatDepthwiseKernel& kernel_;
  OwnFloats weights_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  uint8_t* const* residual_;
  RowBlocks blocks_;
  std::vector<float> bias_;
  std::vector<float> zeros_;
  FloatDepthwiseArgs args_ = {};
};

}  // namespace

std::unique_ptr<Op> make_float_depthwise(const FloatDepthwiseParams& params,
                                         const PlanTarget& target, std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  if (!check_floats(input, error) || !check_floats(output, error)) return nullptr;
  if (input.shape.rank != 4 || output.shape.rank != 4 ||
      input.shape.dims[3] != output.shape.dims[3]) {
    fail(error, {"input ", describe(input), " and output ", describe(output),
                 " must be [n, h, w, c] of the same channels"});
    return nullptr;
  }
  const FloatDepthwiseKernel* kernel = find_float_depthwise_kernel(params.kernel);
  if (kernel == nullptr) {
    fail(error, {"kernel '", params.kernel, "' is unknown"});
    return nullptr;
  }
  const auto channels = static_cast<size_t>(input.shape.dims[3]);
  const Window& window = params.window;
  // No smaller than what packed_float_depthwise_size() is about to compute.
  if (!multiply({channels + kernel->cr, window.kernel_w, window.kernel_h, sizeof(float)},
                nullptr)) {
    fail(error, {"the weights are too large"});
    return nullptr;
  }
  const size_t size =
      packed_float_depthwise_size(*kernel, channels, window.kernel_h, window.kernel_w);
  OwnFloats weights;
  if (!check_window(window, input, output, error) || !check_disjoint(input, output, error) ||
      !check_kernel(kernel->name, kernel->isa, target.storage, kernel->run != nullptr, target,
                    error) ||
      !weights.init(params.weights, size, params.weight_bits, error) ||
      !check_float_epilogue(params.epilogue, channels, output, error)) {
    return nullptr;
  }
  return std::make_unique<FloatDepthwise>(params, *kernel, std::move(weights));
}

}  // namespace edgekit
