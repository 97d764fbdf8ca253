#include "ops/depthwise.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/depthwise/depthwise.h"
#include "ops/check.h"
#include "ops/epilogue.h"
#include "ops/own_weights.h"
#include "ops/round_up.h"
#include "ops/row_blocks.h"

namespace edgekit {
namespace {

/// Output rows whose row pointers are gathered at a time, in whole tiles; no more than an image
/// has. Kernels read a block once for each of its groups of channels, so more than a few rows have
/// to fit a second-level cache; and they prepare weights once for each block.
constexpr size_t kFewBlockRows = 8;
constexpr size_t kMostBlockRows = 16;
constexpr size_t kBlockBytes = 192 * 1024;

size_t most_block_rows(const DepthwiseParams& params) {
  const int64_t* in = params.input.shape.dims;
  const size_t row_size = static_cast<size_t>(in[2]) * static_cast<size_t>(in[3]);
  const size_t fitting = kBlockBytes / row_size / params.window.stride_h;
  return std::clamp(fitting, kFewBlockRows, kMostBlockRows);
}

/// Below so many output rows, threads share rows instead of tiles: one tile more would weigh more
/// than a tile cut in two.
constexpr size_t kFewRows = 32;

/// What DepthwiseArgs promises behind each row.
constexpr size_t kReadBehind = 64;

/// Units are output rows of all images.
class Depthwise : public Op {
 public:
  Depthwise(const DepthwiseParams& params, const DepthwiseKernel& kernel, OwnWeights weights,
            Epilogue epilogue, const PlanTarget& target)
      : kernel_(kernel),
        weights_(std::move(weights)),
        epilogue_(std::move(epilogue)),
        input_(params.input.data),
        output_(params.output.data),
        blocks_(params.window, params.input.shape, params.output.shape,
                round_up(most_block_rows(params), kernel.tile_rows)),
        zero_(static_cast<uint8_t>(params.input.zero_point + storage_offset(target.storage))) {
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
    args_.y_stride = args_.out_width * args_.channels;
  }

  size_t units() const override { return blocks_.units(); }
  bool in_rows() const override { return true; }
  size_t granule() const override { return units() < kFewRows ? 1 : kernel_.tile_rows; }
  size_t cost() const override {
    return units() * args_.y_stride * args_.kernel_h * args_.kernel_w;
  }
  size_t scratch_size() const override { return pointers_size() + row_size() + kReadBehind; }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    blocks_.for_each(begin, end,
                     [&](size_t first, size_t count) { run_rows(first, count, scratch); });
  }

 private:
  size_t row_size() const { return args_.in_width * args_.channels; }
  size_t pointers_size() const {
    return round_up(blocks_.most_input_rows() * sizeof(uint8_t*), kLineSize);
  }

  /// Scratch: row pointers, then a row of zero points, of which the first pixel is always needed.
  void run_rows(size_t first, size_t count, uint8_t* scratch) const {
    const uint8_t** rows = reinterpret_cast<const uint8_t**>(scratch);
    uint8_t* zeros = scratch + pointers_size();
    const uint8_t* image = *input_ + blocks_.image_row(first) * row_size();
    const size_t top = blocks_.top(first);
    size_t filled = args_.channels;
    for (size_t i = 0; i < blocks_.input_rows(count); ++i) {
      rows[i] = top + i < blocks_.in_h() ? image + (top + i) * row_size() : zeros;
      if (rows[i] == zeros) filled = row_size();
    }
    std::memset(zeros, zero_, filled);
    DepthwiseArgs args = args_;
    args.out_rows = count;
    args.rows = rows;
    args.zero = zeros;
    args.bias = epilogue_.bias(0);
    args.requantize = epilogue_.requantize(0, first * args_.out_width);
    args.requantize.residual_stride = args_.y_stride;
    args.y = *output_ + first * args_.y_stride;
    kernel_.run(args);
    if (epilogue_.table().present()) {
      epilogue_.table().apply(args.y, count, args_.y_stride, args_.y_stride);
    }
  }

  const DepthwiseKernel& kernel_;
  OwnWeights weights_;
  Epilogue epilogue_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  RowBlocks blocks_;
  uint8_t zero_;
  DepthwiseArgs args_ = {};
};

bool check_shapes(const DepthwiseParams& params, std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  if (!check_image(input, error) || !check_image(output, error)) return false;
  if (input.shape.dims[3] != output.shape.dims[3]) {
    return fail(error, {"input ", describe(input), " and output ", describe(output),
                        " have different channels"});
  }
  return check_window(params.window, input, output, error) && check_readable_behind(input, error) &&
         check_disjoint(input, output, error);
}

bool check_weights(const DepthwiseParams& params, const DepthwiseKernel& kernel,
                   OwnWeights* weights, std::string* error) {
  const size_t channels = static_cast<size_t>(params.input.shape.dims[3]);
  const Window& window = params.window;
  // No smaller than what packed_depthwise_size() is about to compute, so that it can't overflow.
  if (!multiply({channels + kernel.cr, window.kernel_w, uint64_t{window.kernel_h} + kernel.kr},
                nullptr)) {
    return fail(error, {"the weights are too large"});
  }
  return weights->init(params.weights,
                       packed_depthwise_size(kernel, channels, window.kernel_h, window.kernel_w),
                       params.weight_bits, error);
}

}  // namespace

std::unique_ptr<Op> make_depthwise(const DepthwiseParams& params, const PlanTarget& target,
                                   std::string* error) {
  OwnWeights weights;
  if (!check_shapes(params, error)) return nullptr;
  const DepthwiseKernel* kernel = find_depthwise_kernel(params.kernel);
  if (kernel == nullptr) {
    fail(error, {"kernel '", params.kernel, "' is unknown"});
    return nullptr;
  }
  if (!check_kernel(kernel->name, kernel->isa, kernel->storage, kernel->run != nullptr, target,
                    error) ||
      !check_weights(params, *kernel, &weights, error)) {
    return nullptr;
  }
  EpilogueParams epilogue_params;
  epilogue_params.bias = params.bias;
  epilogue_params.multiplier = params.multiplier;
  epilogue_params.groups = 1;
  epilogue_params.n = static_cast<size_t>(params.input.shape.dims[3]);
  epilogue_params.padding = kernel->cr;
  epilogue_params.depth = size_t{params.window.kernel_h} * params.window.kernel_w;
  epilogue_params.lo = params.lo;
  epilogue_params.hi = params.hi;
  epilogue_params.output = &params.output;
  epilogue_params.residual = &params.residual;
  epilogue_params.table = &params.table;
  Epilogue epilogue;
  if (!epilogue.init(epilogue_params, target, error)) return nullptr;
  return std::make_unique<Depthwise>(params, *kernel, std::move(weights), std::move(epilogue),
                                     target);
}

}  // namespace edgekit
