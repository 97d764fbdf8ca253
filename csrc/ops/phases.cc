#include "ops/phases.h"

#include "ops/check.h"

namespace edgekit {
namespace {

/// Taps times phases of an axis: what is searched when the op is made.
constexpr int64_t kMostSteps = int64_t{1} << 24;

/// One axis of the window.
struct Axis {
  int64_t kernel;
  int64_t stride;
  int64_t dilation;
  int64_t pad;
  int64_t in;
  int64_t out;
};

AxisPhase find_phase(const Axis& axis, int64_t phase) {
  AxisPhase found;
  found.first = ((phase - axis.pad) % axis.stride + axis.stride) % axis.stride;
  if (found.first < axis.out) found.count = (axis.out - 1 - found.first) / axis.stride + 1;
  for (int64_t tap = 0; tap < axis.kernel; ++tap) {
    const int64_t distance = found.first + axis.pad - tap * axis.dilation;
    if (distance % axis.stride == 0) found.places.push_back(distance / axis.stride);
  }
  if (found.places.empty()) found.places.push_back(axis.in + axis.out);
  return found;
}

std::vector<AxisPhase> find_axis(const Axis& axis) {
  std::vector<AxisPhase> phases;
  for (int64_t phase = 0; phase < axis.stride; ++phase) phases.push_back(find_phase(axis, phase));
  return phases;
}

bool check_shapes(const Window& window, const TensorView& input, const TensorView& output,
                  std::string* error) {
  if (input.shape.rank != 4 || output.shape.rank != 4 ||
      output.shape.dims[0] != input.shape.dims[0]) {
    return fail(error, {"output ", describe(output), " and input ", describe(input),
                        " must be [n, h, w, c] of the same batch"});
  }
  if (window.kernel_h == 0 || window.kernel_w == 0 || window.stride_h == 0 ||
      window.stride_w == 0 || window.dilation_h == 0 || window.dilation_w == 0) {
    return fail(error, {"kernel, strides and dilations must be at least 1"});
  }
  return true;
}

}  // namespace

bool joins_columns(const Window& window, int64_t in_width, int64_t out_width) {
  size_t joined = 0;
  return window.kernel_w == window.stride_w && window.dilation_w == 1 && window.pad_left == 0 &&
         multiply({static_cast<uint64_t>(in_width), window.stride_w}, &joined) &&
         joined == static_cast<uint64_t>(out_width);
}

bool find_phases(const Window& window, const TensorView& input, const TensorView& output,
                 uint32_t groups, const Blob& weights, const Blob& bias, Phases* phases,
                 std::string* error) {
  if (!check_shapes(window, input, output, error)) return false;
  const int64_t* in = input.shape.dims;
  const int64_t* out = output.shape.dims;
  const auto channels = static_cast<uint64_t>(out[3]);
  size_t least = 0;
  if (!multiply({window.stride_h, window.stride_w, channels, sizeof(int32_t)}, &least) ||
      least > bias.size || !multiply({window.kernel_h, window.kernel_w, channels}, &least) ||
      least > weights.size || !multiply({window.kernel_h, window.dilation_h}, nullptr) ||
      !multiply({window.kernel_w, window.dilation_w}, nullptr)) {
    return fail(error, {"the weights or the bias hold too little for the window"});
  }
  const Axis height = {window.kernel_h, window.stride_h, window.dilation_h,
                       window.pad_top,  in[1],           out[1]};
  const Axis width = {window.kernel_w, window.stride_w, window.dilation_w,
                      window.pad_left, in[2],           out[2]};
  for (const Axis* axis : {&height, &width}) {
    if (axis->kernel > kMostSteps / axis->stride) {
      return fail(error, {"a kernel of ", std::to_string(axis->kernel), " and a stride of ",
                          std::to_string(axis->stride), " are too large together"});
    }
  }
  phases->rows = find_axis(height);
  phases->joined = groups == 1 && joins_columns(window, in[2], out[2]);
  if (phases->joined) {
    phases->columns = {{0, in[2], {0}}};
  } else {
    phases->columns = find_axis(width);
  }
  return true;
}

bool cut_phase(const Blob& whole, size_t size, size_t* offset, Blob* part) {
  if (whole.data == nullptr || *offset > whole.size || size > whole.size - *offset) return false;
  *part = {whole.data + *offset, size};
  *offset += size;
  return true;
}

}  // namespace edgekit
