#include "ops/check_wide.h"

#include <cmath>

#include "ops/check.h"
#include "ops/check_floats.h"

namespace edgekit {
namespace {

constexpr int32_t kMost = 32767;
/// Of a bias and of sums: doubles hold all whole numbers below 2^53.
constexpr double kMostBias = 0x1p52;
constexpr size_t kMostTaps = 1 << 15;

bool is_step(double step) { return std::isfinite(step) && step > 0; }

bool check_constants(const WideLayerParams& params, size_t n, std::string* error) {
  if (!check_blob(params.bias, n, sizeof(double), "the bias", error) ||
      !check_blob(params.multiplier, n, sizeof(double), "the multiplier", error)) {
    return false;
  }
  const WideFinishArgs epilogue = wide_finish(params, n);
  for (size_t o = 0; o < n; ++o) {
    const double bias = epilogue.bias[o];
    if (!(std::abs(bias) <= kMostBias) || bias != std::floor(bias)) {
      return fail(error, {"a bias is no whole number, or too large"});
    }
    if (!is_step(epilogue.multiplier[o])) {
      return fail(error, {"a multiplier is not above 0 and finite"});
    }
  }
  if (!is_step(static_cast<double>(params.input_step)) ||
      !is_step(static_cast<double>(params.output_step))) {
    return fail(error, {"a scale is not above 0 and finite"});
  }
  if (params.lo < -kMost || params.hi > kMost || params.lo > params.hi) {
    return fail(error, {"it clamps outside int16"});
  }
  return true;
}

}  // namespace

bool check_wide(const WideLayerParams& params, WideShape* shape, std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  if (!check_floats(input, error) || !check_floats(output, error) ||
      !check_disjoint(input, output, error)) {
    return false;
  }
  const Window& window = params.window;
  const Shape& in = input.shape;
  const Shape& out = output.shape;
  shape->window = window;
  if (in.rank == 4 && out.rank == 4) {
    if (!check_window(window, input, output, error)) return false;
    shape->batch = static_cast<size_t>(in.dims[0]);
    shape->in_h = static_cast<size_t>(in.dims[1]);
    shape->in_w = static_cast<size_t>(in.dims[2]);
    shape->out_h = static_cast<size_t>(out.dims[1]);
    shape->out_w = static_cast<size_t>(out.dims[2]);
  } else {
    if (!check_same_rows(input, output, error)) return false;
    if (window.kernel_h != 1 || window.kernel_w != 1 || window.stride_h != 1 ||
        window.stride_w != 1 || window.pad_top != 0 || window.pad_left != 0 ||
        window.pad_bottom != 0 || window.pad_right != 0) {
      return fail(error, {"a window moves over what is no image"});
    }
    shape->in_w = element_count(in, 0, in.rank - 1);
    shape->out_w = shape->in_w;
  }
  shape->c = static_cast<size_t>(in.dims[in.rank - 1]);
  shape->n = static_cast<size_t>(out.dims[out.rank - 1]);
  size_t taps = 0;
  if (!multiply({window.kernel_h, window.kernel_w}, &taps) || taps > kMostTaps ||
      !multiply({taps, shape->c, shape->n}, nullptr)) {
    return fail(error, {"the weights are too large"});
  }
  return check_constants(params, shape->n, error);
}

WideFinishArgs wide_finish(const WideLayerParams& params, size_t channels) {
  WideFinishArgs args = {};
  args.channels = channels;
  args.bias = reinterpret_cast<const double*>(params.bias.data);
  args.multiplier = reinterpret_cast<const double*>(params.multiplier.data);
  args.lo = static_cast<double>(params.lo);
  args.hi = static_cast<double>(params.hi);
  args.step = params.output_step;
  return args;
}

}  // namespace edgekit
