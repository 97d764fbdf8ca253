#include "ops/float_conv.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "ops/check.h"
#include "ops/check_floats.h"

namespace edgekit {
namespace {

/// Output pixels whose row pointers are gathered at a time, and row pointers, unless one tile needs
/// more.
constexpr size_t kBlockPixels = 96;
constexpr size_t kBlockPointers = 4096;

/// Floats of copied taps that a block may hold, unless one tile needs more.
constexpr size_t kBorderFloats = 32 * 1024;

/// Units are output pixels in their order. Rows of the matrix product are found by pointers, a
/// block of them at a time. A tap is one pixel; or, where a window's row lies side by side, that
/// row, whose weights do as well: k is then kernel_w times as long. One that hangs over the left or
/// right border is copied between zeros.
///
/// Scratch: row pointers, then the copies.
class FloatConv : public Op {
 public:
  /// `width`: pixels of a tap, 1 or kernel_w.
  FloatConv(FloatLayer layer, const FloatConvParams& params, size_t width)
      : layer_(std::move(layer)),
        window_(params.window),
        input_(params.input.data),
        in_h_(params.input.shape.dims[1]),
        in_w_(params.input.shape.dims[2]),
        channels_(params.input.shape.dims[3]),
        out_h_(static_cast<size_t>(params.output.shape.dims[1])),
        out_w_(static_cast<size_t>(params.output.shape.dims[2])),
        pixels_(element_count(params.output.shape, 0, 3)),
        width_(static_cast<int64_t>(width)),
        columns_(window_.kernel_w / width),
        zeros_(layer_.k()) {
    const Inside inside = find_inside(-int64_t{window_.pad_left}, out_w_);
    border_ = width_ == 1 ? 0 : out_w_ - (inside.end - inside.begin);
    const size_t mr = layer_.kernel().mr;
    block_ = std::max(std::min(kBlockPointers / layer_.taps(), kBlockPixels) / mr * mr, mr);
    while (copies() * layer_.k() > kBorderFloats && block_ > mr) {
      block_ = std::max(block_ / 2 / mr * mr, mr);
    }
  }

  size_t units() const override { return pixels_; }
  bool in_rows() const override { return true; }
  size_t granule() const override { return layer_.kernel().mr; }
  size_t cost() const override { return layer_.cost(pixels_); }
  size_t scratch_size() const override {
    return block_ * layer_.taps() * sizeof(float*) + copies() * layer_.k() * sizeof(float);
  }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    const auto** rows = reinterpret_cast<const float**>(scratch);
    auto* copy = reinterpret_cast<float*>(rows + block_ * layer_.taps());
    for (size_t first = begin; first < end; first += block_) {
      const size_t count = std::min(block_, end - first);
      for (size_t g = 0; g < layer_.groups(); ++g) {
        gather(first, count, g * layer_.k(), rows, copy);
        FloatGemmArgs args = layer_.args(g, first, count);
        args.rows = rows;
        layer_.kernel().run(args);
      }
    }
  }

 private:
  /// Output pixels [begin, end) of some whose taps lie inside of the input's width.
  struct Inside {
    size_t begin;
    size_t end;
  };

  /// For `pixels` output pixels of a row, where the first one's tap begins at column `x`.
  Inside find_inside(int64_t x, size_t pixels) const {
    const int64_t stride = window_.stride_w;
    const int64_t room = in_w_ - width_ - x;
    const size_t begin = x >= 0 ? 0 : static_cast<size_t>((stride - 1 - x) / stride);
    const size_t end = room < 0 ? 0 : static_cast<size_t>(room / stride) + 1;
    const Inside inside = {std::min(begin, pixels), std::min(end, pixels)};
    return {inside.begin, std::max(inside.begin, inside.end)};
  }

  /// Returns how many taps a block may have to copy.
  size_t copies() const {
    const size_t out_rows = block_ / out_w_ + 2;
    return std::min(block_, out_rows * border_) * window_.kernel_h;
  }

  /// Finds the taps of `count` output pixels from `first` on, from a channel on.
  void gather(size_t first, size_t count, size_t channel, const float** rows, float* copy) const {
    while (count != 0) {
      const size_t pixels = std::min(count, out_w_ - first % out_w_);
      copy = gather_row(first, pixels, channel, rows, copy);
      rows += pixels * layer_.taps();
      first += pixels;
      count -= pixels;
    }
  }

  /// Finds those of `pixels` pixels of one output row; returns what follows the copies.
  float* gather_row(size_t first, size_t pixels, size_t channel, const float** rows,
                    float* copy) const {
    const size_t taps = layer_.taps();
    const size_t image = first / out_w_ / out_h_;
    const int64_t top =
        static_cast<int64_t>(first / out_w_ % out_h_) * window_.stride_h - int64_t{window_.pad_top};
    const int64_t left =
        static_cast<int64_t>(first % out_w_) * window_.stride_w - int64_t{window_.pad_left};
    const float* start = reinterpret_cast<const float*>(*input_) +
                         image * static_cast<size_t>(in_h_ * in_w_ * channels_) + channel;
    const int64_t step = window_.stride_w * channels_;
    for (int64_t r = 0; r < window_.kernel_h; ++r) {
      const int64_t y = top + r * window_.dilation_h;
      for (size_t c = 0; c < columns_; ++c, ++rows) {
        if (y < 0 || y >= in_h_) {
          for (size_t i = 0; i < pixels; ++i) rows[i * taps] = zeros_.data();
          continue;
        }
        const float* row = start + y * in_w_ * channels_;
        const int64_t x = left + static_cast<int64_t>(c) * window_.dilation_w;
        const Inside inside = find_inside(x, pixels);
        size_t i = 0;
        for (; i < inside.begin; ++i) rows[i * taps] = read_border(row, x, i, &copy);
        int64_t at = x * channels_ + static_cast<int64_t>(i) * step;
        for (; i < inside.end; ++i, at += step) rows[i * taps] = row + at;
        for (; i < pixels; ++i) rows[i * taps] = read_border(row, x, i, &copy);
      }
    }
    return copy;
  }

  /// Returns the tap of output pixel i, which hangs over a border, if that of pixel 0 begins at
  /// column `x`. A wide one is copied to *copy, which is moved on.
  const float* read_border(const float* row, int64_t x, size_t i, float** copy) const {
    if (width_ == 1) return zeros_.data();
    x += static_cast<int64_t>(i) * window_.stride_w;
    float* to = *copy;
    *copy += layer_.k();
    std::memset(to, 0, layer_.k() * sizeof(float));
    const int64_t begin = std::max<int64_t>(x, 0);
    const int64_t end = std::min(x + width_, in_w_);
    if (begin < end) {
      std::memcpy(to + (begin - x) * channels_, row + begin * channels_,
                  static_cast<size_t>((end - begin) * channels_) * sizeof(float));
    }
    return to;
  }

  FloatLayer layer_;
  Window window_;
  uint8_t* const* input_;
  int64_t in_h_;
  int64_t in_w_;
  int64_t channels_;
  size_t out_h_;
  size_t out_w_;
  size_t pixels_;
  /// Pixels of a tap, and taps of a window's row.
  int64_t width_;
  size_t columns_;
  std::vector<float> zeros_;
  /// Pixels of an output row whose taps hang over a border and are copied.
  size_t border_ = 0;
  size_t block_ = 0;
};

bool check_images(const TensorView& input, const TensorView& output, const Window& window,
                  std::string* error) {
  if (!check_floats(input, error) || !check_floats(output, error)) return false;
  for (const TensorView* tensor : {&input, &output}) {
    if (tensor->shape.rank != 4) {
      return fail(error, {"tensor ", describe(*tensor), " must be [n, h, w, c]"});
    }
  }
  return check_window(window, input, output, error) && check_disjoint(input, output, error);
}

bool is_pointwise(const Window& window) {
  return window.kernel_h == 1 && window.kernel_w == 1 && window.stride_h == 1 &&
         window.stride_w == 1 && window.pad_top == 0 && window.pad_left == 0 &&
         window.pad_bottom == 0 && window.pad_right == 0;
}

}  // namespace

std::unique_ptr<Op> make_float_conv(const FloatConvParams& params, const PlanTarget& target,
                                    std::string* error) {
  if (!check_images(params.input, params.output, params.window, error)) return nullptr;
  if (!check_groups(params.groups, params.input, params.output, error)) return nullptr;
  const auto in = static_cast<uint64_t>(params.input.shape.dims[3]);
  const auto out = static_cast<uint64_t>(params.output.shape.dims[3]);
  const uint64_t groups = params.groups;
  FloatLayerParams layer_params;
  layer_params.kernel = params.kernel;
  layer_params.weights = params.weights;
  layer_params.weight_bits = params.weight_bits;
  layer_params.groups = params.groups;
  layer_params.n = static_cast<size_t>(out / groups);
  layer_params.k = static_cast<size_t>(in / groups);
  layer_params.epilogue = &params.epilogue;
  layer_params.output = &params.output;
  size_t patch = 0;
  if (!multiply({params.window.kernel_h, params.window.kernel_w}, &layer_params.taps) ||
      !multiply({layer_params.taps, layer_params.k, sizeof(float)}, &patch)) {
    fail(error, {"the kernel is too large"});
    return nullptr;
  }
  const bool side_by_side = groups == 1 && params.window.dilation_w == 1;
  const size_t width = side_by_side ? params.window.kernel_w : 1;
  layer_params.k *= width;
  layer_params.taps /= width;
  FloatLayer layer;
  if (!layer.init(layer_params, target, error)) return nullptr;
  if (is_pointwise(params.window)) {
    return make_float_pointwise(std::move(layer), params.input,
                                element_count(params.output.shape, 0, 3));
  }
  return std::make_unique<FloatConv>(std::move(layer), params, width);
}

}  // namespace edgekit
