#include "ops/conv_transpose.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "ops/check.h"
#include "ops/gemm_layer.h"
#include "ops/round_up.h"

namespace edgekit {
namespace {

/// What GemmArgs promises behind each row.
constexpr size_t kReadBehind = 64;

/// Taps times phases of an axis: what is searched when the op is made.
constexpr int64_t kMostSteps = int64_t{1} << 24;

/// Row pointers gathered at a time, unless one tile needs more.
constexpr size_t kBlockPointers = 4096;

/// One axis of the window.
struct Axis {
  int64_t kernel;
  int64_t stride;
  int64_t dilation;
  int64_t pad;
  int64_t in;
  int64_t out;
};

/// One phase of an axis: the outputs x with (x + pad) mod stride == phase.
struct AxisPhase {
  /// The first of them, and how many there are.
  int64_t first = 0;
  int64_t count = 0;
  /// The input under its first output, for each tap in ascending order; the next output's is one
  /// further. Without taps one that is always outside.
  std::vector<int64_t> places;
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

/// The phases of one row of phases that one multiplication serves.
struct Phase {
  GemmLayer layer;
  AxisPhase columns;
  /// Output pixels between neighbours.
  size_t step;
  /// Whether each tap of an output row is a whole input row, as where joins_columns().
  bool is_row;
};

/// Units are output rows of all images.
class ConvTranspose : public Op {
 public:
  ConvTranspose(const ConvTransposeParams& params, std::vector<AxisPhase> rows,
                std::vector<Phase> phases, const PlanTarget& target)
      : rows_(std::move(rows)),
        phases_(std::move(phases)),
        input_(params.input.data),
        output_(params.output.data),
        images_(static_cast<size_t>(params.input.shape.dims[0])),
        in_h_(params.input.shape.dims[1]),
        in_w_(params.input.shape.dims[2]),
        out_h_(static_cast<size_t>(params.output.shape.dims[1])),
        pad_top_(params.window.pad_top),
        channels_(static_cast<size_t>(params.input.shape.dims[3])),
        pixel_size_(static_cast<size_t>(params.output.shape.dims[3]) *
                    dtype_size(params.output.dtype)),
        row_size_(static_cast<size_t>(params.output.shape.dims[2]) * pixel_size_),
        zero_row_(channels_ + kReadBehind,
                  static_cast<uint8_t>(params.input.zero_point + storage_offset(target.storage))) {}

  size_t units() const override { return images_ * out_h_; }
  size_t cost() const override {
    size_t of_phases = 0;
    for (const Phase& phase : phases_) {
      of_phases += phase.layer.cost(static_cast<size_t>(phase.columns.count));
    }
    return units() * of_phases / rows_.size();
  }
  size_t scratch_size() const override {
    size_t pointers = 0;
    for (const Phase& phase : phases_) {
      pointers = std::max(pointers, block_size(phase) * phase.layer.taps());
    }
    return pointers * sizeof(uint8_t*);
  }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    const size_t columns = phases_.size() / rows_.size();
    for (size_t unit = begin; unit < end; ++unit) {
      const size_t y = unit % out_h_;
      const size_t row = (y + pad_top_) % rows_.size();
      const uint8_t* image =
          *input_ + unit / out_h_ * static_cast<size_t>(in_h_ * in_w_) * channels_;
      for (size_t i = 0; i < columns; ++i) {
        run_phase(phases_[row * columns + i], rows_[row], image, y, *output_ + unit * row_size_,
                  reinterpret_cast<const uint8_t**>(scratch));
      }
    }
  }

 private:
  size_t block_size(const Phase& phase) const {
    const size_t mr = phase.layer.kernel().mr;
    const size_t fit = kBlockPointers / phase.layer.taps() / mr * mr;
    return std::max(fit, mr);
  }

  /// Computes what `phase` gives to output row y, which begins at `to`.
  void run_phase(const Phase& phase, const AxisPhase& row, const uint8_t* image, size_t y,
                 uint8_t* to, const uint8_t** pointers) const {
    const int64_t down = (static_cast<int64_t>(y) - row.first) / static_cast<int64_t>(rows_.size());
    const auto count = static_cast<size_t>(phase.columns.count);
    if (phase.is_row && row.places.size() == 1) {
      const uint8_t* line = input_row(image, row.places[0] + down);
      GemmArgs args = phase.layer.args(0, 0, count);
      args.a = line != nullptr ? line : zero_row_.data();
      args.a_stride = line != nullptr ? channels_ : 0;
      args.y_stride = phase.step * pixel_size_;
      args.y = to;
      return phase.layer.run(args);
    }
    const size_t block = block_size(phase);
    for (size_t first = 0; first < count; first += block) {
      const size_t pixels = std::min(block, count - first);
      const uint8_t** next = pointers;
      for (size_t i = first; i < first + pixels; ++i) {
        for (const int64_t place : row.places) {
          const uint8_t* line = input_row(image, place + down);
          for (const int64_t column : phase.columns.places) {
            const int64_t x = column + static_cast<int64_t>(i);
            const bool inside = line != nullptr && x >= 0 && x < in_w_;
            *next++ = inside ? line + static_cast<size_t>(x) * channels_ : zero_row_.data();
          }
        }
      }
      GemmArgs args = phase.layer.args(0, 0, pixels);
      args.rows = pointers;
      args.y_stride = phase.step * pixel_size_;
      args.y = to + static_cast<size_t>(phase.columns.first) * pixel_size_ + first * args.y_stride;
      phase.layer.run(args);
    }
  }

  /// Returns where an input row begins, or null outside the image.
  const uint8_t* input_row(const uint8_t* image, int64_t y) const {
    if (y < 0 || y >= in_h_) return nullptr;
    return image + static_cast<size_t>(y * in_w_) * channels_;
  }

  std::vector<AxisPhase> rows_;
  std::vector<Phase> phases_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  size_t images_;
  int64_t in_h_;
  int64_t in_w_;
  size_t out_h_;
  size_t pad_top_;
  size_t channels_;
  size_t pixel_size_;
  size_t row_size_;
  std::vector<uint8_t> zero_row_;
};

bool check_shapes(const ConvTransposeParams& params, std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  if (!check_image(input, error) || !check_tensor(output, error)) return false;
  if (output.shape.rank != 4 || output.shape.dims[0] != input.shape.dims[0]) {
    return fail(error, {"output ", describe(output), " must be [n, h, w, c] with the batch of ",
                        describe(input)});
  }
  const Window& window = params.window;
  if (window.kernel_h == 0 || window.kernel_w == 0 || window.stride_h == 0 ||
      window.stride_w == 0 || window.dilation_h == 0 || window.dilation_w == 0) {
    return fail(error, {"kernel, strides and dilations must be at least 1"});
  }
  return check_readable_behind(input, error) && check_disjoint(input, output, error);
}

/// Cuts the constants of one phase after another from those of all.
class PhaseReader {
 public:
  PhaseReader(const ConvTransposeParams& params, const GemmKernel& kernel)
      : params_(params), kernel_(kernel) {}

  bool read(size_t n, size_t taps, const PlanTarget& target, GemmLayer* layer, std::string* error) {
    const size_t k = static_cast<size_t>(params_.input.shape.dims[3]);
    if (!multiply({n + kernel_.panel, taps, k + kernel_.kr}, nullptr)) {
      return fail(error, {"the weights are too large"});
    }
    const size_t size = packed_gemm_size(kernel_, n, k, taps);
    const Residual no_residual;
    GemmLayerParams layer_params;
    layer_params.kernel = params_.kernel;
    layer_params.groups = 1;
    layer_params.n = n;
    layer_params.k = k;
    layer_params.taps = taps;
    layer_params.lo = params_.lo;
    layer_params.hi = params_.hi;
    layer_params.output = &params_.output;
    layer_params.residual = &no_residual;
    layer_params.table = &params_.table;
    if (!cut(params_.weights, size, &weights_, &layer_params.weights) ||
        !cut(params_.bias, n * sizeof(int32_t), &bias_, &layer_params.bias) ||
        !cut(params_.multiplier, n * sizeof(float), &multiplier_, &layer_params.multiplier)) {
      return fail(error, {"weights, bias or multipliers end before the last phase"});
    }
    weights_ = round_up(weights_, kLineSize);
    return layer->init(layer_params, target, error);
  }

 private:
  static bool cut(const Blob& whole, size_t size, size_t* offset, Blob* part) {
    if (whole.data == nullptr || *offset > whole.size || size > whole.size - *offset) return false;
    *part = {whole.data + *offset, size};
    *offset += size;
    return true;
  }

  const ConvTransposeParams& params_;
  const GemmKernel& kernel_;
  size_t weights_ = 0;
  size_t bias_ = 0;
  size_t multiplier_ = 0;
};

}  // namespace

bool joins_columns(const Window& window, int64_t in_width, int64_t out_width) {
  size_t joined = 0;
  return window.kernel_w == window.stride_w && window.dilation_w == 1 && window.pad_left == 0 &&
         multiply({static_cast<uint64_t>(in_width), window.stride_w}, &joined) &&
         joined == static_cast<uint64_t>(out_width);
}

std::unique_ptr<Op> make_conv_transpose(const ConvTransposeParams& params, const PlanTarget& target,
                                        std::string* error) {
  if (!check_shapes(params, error)) return nullptr;
  const GemmKernel* kernel = find_gemm_kernel(params.kernel);
  if (kernel == nullptr) {
    fail(error, {"kernel '", params.kernel, "' is unknown"});
    return nullptr;
  }
  const Window& window = params.window;
  const int64_t* in = params.input.shape.dims;
  const int64_t* out = params.output.shape.dims;
  const Axis height = {window.kernel_h, window.stride_h, window.dilation_h,
                       window.pad_top,  in[1],           out[1]};
  const Axis width = {window.kernel_w, window.stride_w, window.dilation_w,
                      window.pad_left, in[2],           out[2]};
  const bool joined = joins_columns(window, in[2], out[2]);
  const int64_t column_phases = joined ? 1 : width.stride;
  const auto n = static_cast<size_t>(joined ? out[3] * width.stride : out[3]);
  // Each phase has a bias, so that a plan has no more of them, nor of taps, than its size allows.
  size_t least = 0;
  if (!multiply({window.stride_h, static_cast<uint64_t>(column_phases), n, sizeof(int32_t)},
                &least) ||
      least > params.bias.size ||
      !multiply({window.kernel_h, window.kernel_w, static_cast<uint64_t>(out[3])}, &least) ||
      least > params.weights.size || !multiply({window.kernel_h, window.dilation_h}, nullptr) ||
      !multiply({window.kernel_w, window.dilation_w}, nullptr)) {
    fail(error, {"the weights or the bias hold too little for the window"});
    return nullptr;
  }
  for (const Axis* axis : {&height, &width}) {
    if (axis->kernel > kMostSteps / axis->stride) {
      fail(error, {"a kernel of ", std::to_string(axis->kernel), " and a stride of ",
                   std::to_string(axis->stride), " are too large together"});
      return nullptr;
    }
  }
  std::vector<AxisPhase> rows;
  std::vector<Phase> phases;
  PhaseReader reader(params, *kernel);
  for (int64_t a = 0; a < height.stride; ++a) {
    rows.push_back(find_phase(height, a));
    for (int64_t b = 0; b < column_phases; ++b) {
      Phase phase;
      phase.is_row = joined;
      if (joined) {
        phase.columns.count = in[2];
        phase.columns.places = {0};
      } else {
        phase.columns = find_phase(width, b);
      }
      phase.step = static_cast<size_t>(width.stride);
      if (!reader.read(n, rows.back().places.size() * phase.columns.places.size(), target,
                       &phase.layer, error)) {
        return nullptr;
      }
      phases.push_back(std::move(phase));
    }
  }
  return std::make_unique<ConvTranspose>(params, std::move(rows), std::move(phases), target);
}

}  // namespace edgekit
