#include "ops/shallow_conv.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "ops/check.h"
#include "ops/epilogue.h"
#include "ops/own_weights.h"
#include "ops/round_up.h"
#include "ops/row_blocks.h"

namespace edgekit {
namespace {

/// Output rows of one call of the kernel, in whole tiles; no more than an image has.
constexpr size_t kBlockRows = 8;

/// What ShallowArgs promises behind each row.
constexpr size_t kReadBehind = 64;

/// An output of few products takes no less time than of so many: requantizing and storing it does.
constexpr size_t kLeastProducts = 32;

/// Units are output rows of all images. Where the window hangs over the left or right border, rows
/// are copied between zero points; elsewhere they are read where they lie.
///
/// Scratch: row pointers, then the copies.
class ShallowConv : public Op {
 public:
  ShallowConv(const ConvParams& params, const ShallowKernel& kernel, OwnWeights weights,
              Epilogue epilogue, const PlanTarget& target)
      : kernel_(kernel),
        weights_(std::move(weights)),
        epilogue_(std::move(epilogue)),
        input_(params.input.data),
        output_(params.output.data),
        blocks_(params.window, params.input.shape, params.output.shape,
                round_up(kBlockRows, kernel.tile_rows)),
        zero_(static_cast<uint8_t>(params.input.zero_point + storage_offset(target.storage))) {
    const Window& window = params.window;
    args_.n = static_cast<size_t>(params.output.shape.dims[3]);
    args_.channels = static_cast<size_t>(params.input.shape.dims[3]);
    args_.out_width = static_cast<size_t>(params.output.shape.dims[2]);
    args_.kernel_h = window.kernel_h;
    args_.kernel_w = window.kernel_w;
    args_.stride_h = window.stride_h;
    args_.stride_w = window.stride_w;
    args_.dilation_h = window.dilation_h;
    args_.w = weights_.data();
    args_.y_stride = args_.out_width * args_.n;
    in_size_ = static_cast<size_t>(params.input.shape.dims[2]) * args_.channels;
    needed_ = ((args_.out_width - 1) * args_.stride_w + args_.kernel_w) * args_.channels;
    left_ = window.pad_left * args_.channels;
    copies_ = left_ != 0 || needed_ > in_size_;
    zero_row_.assign(needed_ + kReadBehind, zero_);
  }

  size_t units() const override { return blocks_.units(); }
  bool in_rows() const override { return true; }
  size_t granule() const override { return kernel_.tile_rows; }
  size_t cost() const override {
    const size_t products = args_.kernel_h * args_.kernel_w * args_.channels;
    return units() * args_.y_stride * std::max(products, kLeastProducts);
  }
  size_t scratch_size() const override {
    const size_t copies =
        copies_ ? std::min(blocks_.most_input_rows(), blocks_.in_h()) * copy_stride() : 0;
    return pointers_size() + copies + kReadBehind;
  }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    blocks_.for_each(begin, end,
                     [&](size_t first, size_t count) { run_rows(first, count, scratch); });
  }

 private:
  size_t pointers_size() const {
    return round_up(blocks_.most_input_rows() * sizeof(uint8_t*), kLineSize);
  }
  size_t copy_stride() const { return round_up(needed_, kLineSize); }

  void run_rows(size_t first, size_t count, uint8_t* scratch) const {
    const uint8_t** rows = reinterpret_cast<const uint8_t**>(scratch);
    uint8_t* copy = scratch + pointers_size();
    const uint8_t* image = *input_ + blocks_.image_row(first) * in_size_;
    const size_t top = blocks_.top(first);
    for (size_t i = 0; i < blocks_.input_rows(count); ++i) {
      if (top + i >= blocks_.in_h()) {
        rows[i] = zero_row_.data();
        continue;
      }
      rows[i] = image + (top + i) * in_size_;
      if (!copies_) continue;
      copy_row(rows[i], copy);
      rows[i] = copy;
      copy += copy_stride();
    }
    ShallowArgs args = args_;
    args.out_rows = count;
    args.rows = rows;
    args.bias = epilogue_.bias(0);
    args.requantize = epilogue_.requantize(0, first * args_.out_width);
    args.requantize.residual_stride = args_.y_stride;
    args.y = *output_ + first * args_.y_stride;
    kernel_.run(args);
    if (epilogue_.table().present()) {
      epilogue_.table().apply(args.y, count, args_.y_stride, args_.y_stride);
    }
  }

  /// Writes one row between its padding.
  void copy_row(const uint8_t* row, uint8_t* to) const {
    const size_t left = std::min(left_, needed_);
    const size_t middle = std::min(in_size_, needed_ - left);
    std::memset(to, zero_, left);
    std::memcpy(to + left, row, middle);
    std::memset(to + left + middle, zero_, needed_ - left - middle);
  }

  const ShallowKernel& kernel_;
  OwnWeights weights_;
  Epilogue epilogue_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  RowBlocks blocks_;
  uint8_t zero_;
  ShallowArgs args_ = {};
  /// Bytes of an input row, of the part of a row that windows cover, and of its padding on the
  /// left.
  size_t in_size_;
  size_t needed_;
  size_t left_;
  bool copies_;
  std::vector<uint8_t> zero_row_;
};

bool check_shape(const ConvParams& params, const ShallowKernel& kernel, std::string* error) {
  const std::string name = std::string("kernel '") + kernel.name + "'";
  const Window& window = params.window;
  if (params.groups != 1 || params.patches || window.dilation_w != 1) {
    return fail(error, {name, " takes no groups, patches or dilation in width"});
  }
  if (params.output.dtype != DType::kCode) {
    return fail(error,
                {name, " writes codes, which output ", describe(params.output), " does not hold"});
  }
  if (!fits_shallow(static_cast<size_t>(params.input.shape.dims[3]), window.kernel_h,
                    window.kernel_w)) {
    return fail(error, {name, " takes no window this large"});
  }
  return true;
}

bool check_weights(const ConvParams& params, const ShallowKernel& kernel, OwnWeights* weights,
                   std::string* error) {
  const size_t n = static_cast<size_t>(params.output.shape.dims[3]);
  if (!multiply({n + kernel.nr, kMaxShallowHeight, kMaxShallowRow + kernel.kr}, nullptr)) {
    return fail(error, {"the weights are too large"});
  }
  return weights->init(
      params.weights,
      packed_shallow_size(kernel, n, static_cast<size_t>(params.input.shape.dims[3]),
                          params.window.kernel_h, params.window.kernel_w),
      params.weight_bits, error);
}

}  // namespace

std::unique_ptr<Op> make_shallow_conv(const ConvParams& params, const ShallowKernel& kernel,
                                      const PlanTarget& target, std::string* error) {
  OwnWeights weights;
  if (!check_kernel(kernel.name, kernel.isa, kernel.storage, kernel.run != nullptr, target,
                    error) ||
      !check_shape(params, kernel, error) || !check_weights(params, kernel, &weights, error)) {
    return nullptr;
  }
  const Window& window = params.window;
  EpilogueParams epilogue_params;
  epilogue_params.bias = params.bias;
  epilogue_params.multiplier = params.multiplier;
  epilogue_params.groups = 1;
  epilogue_params.n = static_cast<size_t>(params.output.shape.dims[3]);
  epilogue_params.padding = kernel.nr;
  epilogue_params.depth =
      size_t{window.kernel_h} * window.kernel_w * static_cast<size_t>(params.input.shape.dims[3]);
  epilogue_params.lo = params.lo;
  epilogue_params.hi = params.hi;
  epilogue_params.output = &params.output;
  epilogue_params.residual = &params.residual;
  epilogue_params.table = &params.table;
  Epilogue epilogue;
  if (!epilogue.init(epilogue_params, target, error)) return nullptr;
  return std::make_unique<ShallowConv>(params, kernel, std::move(weights), std::move(epilogue),
                                       target);
}

}  // namespace edgekit
