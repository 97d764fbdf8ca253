#include "ops/conv.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "ops/check.h"
#include "ops/pointwise.h"
#include "ops/round_up.h"
#include "ops/shallow_conv.h"

namespace edgekit {
namespace {

/// Output pixels whose patches are gathered at a time.
constexpr size_t kBlockPixels = 64;

/// Output pixels whose row pointers are gathered at a time, and the most pointers, unless one tile
/// needs more.
constexpr size_t kPointerPixels = 256;
constexpr size_t kBlockPointers = 4096;

/// The most bytes of windows at the borders that are copied at a time.
constexpr size_t kBorderBytes = 128 * 1024;

/// What GemmArgs promises behind each row.
constexpr size_t kReadBehind = 64;

/// The images that a window moves over, in elements.
struct Geometry {
  Geometry(const Window& moved, const TensorView& in, const Shape& out)
      : window(moved),
        in_h(in.shape.dims[1]),
        in_w(in.shape.dims[2]),
        channels(in.shape.dims[3]),
        pixel(static_cast<int64_t>(pixel_stride(in))),
        out_h(out.dims[1]),
        out_w(out.dims[2]) {}

  Window window;
  int64_t in_h;
  int64_t in_w;
  int64_t channels;
  /// Bytes from one input pixel to the next.
  int64_t pixel;
  int64_t out_h;
  int64_t out_w;
};

/// Walks over output pixels, and says where their windows begin in the input.
class Position {
 public:
  Position(const Geometry& geometry, size_t pixel) : g_(geometry) {
    x_ = static_cast<int64_t>(pixel) % g_.out_w;
    y_ = static_cast<int64_t>(pixel) / g_.out_w % g_.out_h;
    image_ = static_cast<int64_t>(pixel) / g_.out_w / g_.out_h;
  }

  /// Goes `pixels` pixels on, at most to the first one of the next row.
  void advance(size_t pixels = 1) {
    x_ += static_cast<int64_t>(pixels);
    if (x_ < g_.out_w) return;
    x_ = 0;
    if (++y_ < g_.out_h) return;
    y_ = 0;
    ++image_;
  }

  /// Returns how many pixels of the output row are left.
  size_t rest() const { return static_cast<size_t>(g_.out_w - x_); }

  int64_t left() const { return x_ * g_.window.stride_w - g_.window.pad_left; }

  /// Returns the first pixel of the input row under the window's row r, or null in the padding.
  const uint8_t* row(const uint8_t* input, int64_t r) const {
    const int64_t y = y_ * g_.window.stride_h + r * g_.window.dilation_h - g_.window.pad_top;
    if (y < 0 || y >= g_.in_h) return nullptr;
    return input + (image_ * g_.in_h + y) * g_.in_w * g_.pixel;
  }

 private:
  const Geometry& g_;
  int64_t x_;
  int64_t y_;
  int64_t image_;
};

/// The output pixels of a row, [begin, end) of them, whose taps lie inside the input's width.
struct Inside {
  /// For `pixels` pixels, the tap of the first of which begins at input pixel `x` and is `width`
  /// wide.
  Inside(const Geometry& geometry, int64_t x, int64_t width, size_t pixels) {
    const int64_t stride = geometry.window.stride_w;
    const int64_t room = geometry.in_w - width - x;
    begin = x >= 0 ? 0 : std::min(pixels, static_cast<size_t>((stride - 1 - x) / stride));
    end = room < 0 ? 0 : std::min(pixels, static_cast<size_t>(room / stride) + 1);
    end = std::max(begin, end);
  }

  size_t begin;
  size_t end;
};

/// Returns how many pixels of an output row have taps that hang over the left or right border.
size_t count_border(const Geometry& geometry, int64_t width) {
  const size_t pixels = static_cast<size_t>(geometry.out_w);
  const Inside inside(geometry, -int64_t{geometry.window.pad_left}, width, pixels);
  return pixels - (inside.end - inside.begin);
}

/// Units are output pixels. A convolution gathers what a block of them needs, then multiplies.
class BlockedConv : public Op {
 public:
  BlockedConv(GemmLayer layer, const ConvParams& params, const PlanTarget& target)
      : layer_(std::move(layer)),
        geometry_(params.window, params.input, params.output.shape),
        input_(params.input.data),
        pixels_(element_count(params.output.shape, 0, 3)),
        zero_(static_cast<uint8_t>(params.input.zero_point + storage_offset(target.storage))) {}

  size_t units() const override { return pixels_; }
  bool in_rows() const override { return true; }
  size_t granule() const override { return layer_.kernel().mr; }
  size_t cost() const override { return layer_.cost(pixels_); }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    for (size_t first = begin; first < end; first += block_) {
      run_block(first, end - first < block_ ? end - first : block_, scratch);
    }
  }

 protected:
  virtual void run_block(size_t first, size_t count, uint8_t* scratch) const = 0;

  /// Takes about `pixels` pixels at a time, in whole tiles.
  void set_block(size_t pixels) {
    const size_t mr = layer_.kernel().mr;
    block_ = pixels < mr ? mr : pixels / mr * mr;
  }

  GemmLayer layer_;
  Geometry geometry_;
  uint8_t* const* input_;
  size_t pixels_;
  uint8_t zero_;
  size_t block_ = kBlockPixels;
};

/// General convolution, by row pointers; in the padding they lead to a row of zero points.
///
/// A tap of the kernel is one pixel; or, where a window's row is one run of bytes, that row: k is
/// then kernel_w times as long. Such a row that hangs over the left or right border is copied
/// between zero points.
///
/// Scratch: row pointers, then the copies.
class PointerConv : public BlockedConv {
 public:
  PointerConv(GemmLayer layer, const ConvParams& params, const PlanTarget& target)
      : BlockedConv(std::move(layer), params, target),
        columns_(layer_.taps() / geometry_.window.kernel_h),
        width_(geometry_.window.kernel_w / static_cast<int64_t>(columns_)),
        border_(width_ == 1 ? 0 : count_border(geometry_, width_)),
        zero_row_(layer_.k() + kReadBehind, zero_) {
    set_block(std::min({kBlockPointers / layer_.taps(), kPointerPixels, pixels_}));
    while (copies() * layer_.k() > kBorderBytes && block_ > layer_.kernel().mr) {
      set_block(block_ / 2);
    }
  }

  size_t scratch_size() const override {
    return pointers_size() + copies() * layer_.k() + kReadBehind;
  }

 private:
  size_t pointers_size() const {
    return round_up(block_ * layer_.taps() * sizeof(uint8_t*), kReadBehind);
  }

  /// Returns how many rows of windows a block may have to copy.
  size_t copies() const {
    const size_t out_rows = block_ / static_cast<size_t>(geometry_.out_w) + 2;
    return std::min(block_, out_rows * border_) * geometry_.window.kernel_h;
  }

  void run_block(size_t first, size_t count, uint8_t* scratch) const override {
    const uint8_t** rows = reinterpret_cast<const uint8_t**>(scratch);
    for (size_t g = 0; g < layer_.groups(); ++g) {
      gather(first, count, g * layer_.k(), rows, scratch + pointers_size());
      GemmArgs args = layer_.args(g, first, count);
      args.rows = rows;
      layer_.run(args);
    }
  }

  void gather(size_t first, size_t count, size_t channel, const uint8_t** rows,
              uint8_t* copy) const {
    Position position(geometry_, first);
    while (count != 0) {
      const size_t pixels = std::min(count, position.rest());
      copy = gather_row(position, pixels, channel, rows, copy);
      position.advance(pixels);
      rows += pixels * layer_.taps();
      count -= pixels;
    }
  }

  /// Gathers for `pixels` pixels of one output row, and returns what follows the copies.
  uint8_t* gather_row(const Position& position, size_t pixels, size_t channel, const uint8_t** rows,
                      uint8_t* copy) const {
    const Window& window = geometry_.window;
    const size_t taps = layer_.taps();
    const int64_t step = window.stride_w * geometry_.pixel;
    for (int64_t r = 0; r < window.kernel_h; ++r) {
      const uint8_t* row = position.row(*input_, r);
      for (size_t c = 0; c < columns_; ++c, ++rows) {
        if (row == nullptr) {
          for (size_t i = 0; i < pixels; ++i) rows[i * taps] = zero_row_.data();
          continue;
        }
        const int64_t x = position.left() + static_cast<int64_t>(c) * window.dilation_w;
        const Inside inside(geometry_, x, width_, pixels);
        size_t i = 0;
        for (; i < inside.begin; ++i) rows[i * taps] = read_border(row, x, i, &copy);
        int64_t at = x * geometry_.pixel + static_cast<int64_t>(i) * step;
        at += static_cast<int64_t>(channel);
        for (; i < inside.end; ++i, at += step) rows[i * taps] = row + at;
        for (; i < pixels; ++i) rows[i * taps] = read_border(row, x, i, &copy);
      }
    }
    return copy;
  }

  /// Returns the bytes of a tap that hangs over a border: that of output pixel i, if that of pixel
  /// 0 begins at input pixel `x`. A wide one is copied to *copy, which is moved on.
  const uint8_t* read_border(const uint8_t* row, int64_t x, size_t i, uint8_t** copy) const {
    if (width_ == 1) return zero_row_.data();
    x += static_cast<int64_t>(i) * geometry_.window.stride_w;
    uint8_t* to = *copy;
    *copy += layer_.k();
    std::memset(to, zero_, layer_.k());
    const int64_t begin = std::max<int64_t>(x, 0);
    const int64_t end = std::min(x + width_, geometry_.in_w);
    if (begin < end) {
      std::memcpy(to + (begin - x) * geometry_.pixel, row + begin * geometry_.pixel,
                  static_cast<size_t>((end - begin) * geometry_.pixel));
    }
    return to;
  }

  /// Taps in a row of the window, the pixels of one, and the pixels of an output row whose windows
  /// hang over a border and are copied.
  size_t columns_;
  int64_t width_;
  size_t border_;
  std::vector<uint8_t> zero_row_;
};

/// Convolution of few channels: whole patches are gathered, so that k is kernel_h * kernel_w *
/// channels.
class PatchConv : public BlockedConv {
 public:
  PatchConv(GemmLayer layer, const ConvParams& params, const PlanTarget& target)
      : BlockedConv(std::move(layer), params, target),
        row_size_(static_cast<size_t>(geometry_.window.kernel_w * geometry_.channels)),
        stride_(round_up(layer_.k(), kChunk)) {
    set_block(kBlockPixels);
  }

  size_t scratch_size() const override { return block_ * stride_ + kReadBehind; }

 private:
  /// Bytes that are copied at once, where a short row is not worth a call. The copy may end in the
  /// next row of the patch, which is written later, or behind the patches.
  static constexpr size_t kChunk = 16;

  void run_block(size_t first, size_t count, uint8_t* scratch) const override {
    Position position(geometry_, first);
    for (size_t i = 0; i < count; ++i, position.advance()) {
      gather(position, scratch + i * stride_);
    }
    GemmArgs args = layer_.args(0, first, count);
    args.a = scratch;
    args.a_stride = stride_;
    layer_.run(args);
  }

  void gather(const Position& position, uint8_t* patch) const {
    const Window& window = geometry_.window;
    const int64_t left = position.left();
    const bool whole = window.dilation_w == 1 && geometry_.pixel == geometry_.channels &&
                       left >= 0 && left + window.kernel_w <= geometry_.in_w;
    for (int64_t r = 0; r < window.kernel_h; ++r, patch += row_size_) {
      const uint8_t* row = position.row(*input_, r);
      if (row == nullptr) {
        std::memset(patch, zero_, row_size_);
      } else if (!whole) {
        gather_taps(row, left, patch);
      } else if (row_size_ <= kChunk) {
        std::memcpy(patch, row + left * geometry_.channels, kChunk);
      } else {
        std::memcpy(patch, row + left * geometry_.channels, row_size_);
      }
    }
  }

  void gather_taps(const uint8_t* row, int64_t left, uint8_t* patch) const {
    const size_t size = static_cast<size_t>(geometry_.channels);
    for (int64_t s = 0; s < geometry_.window.kernel_w; ++s, patch += size) {
      const int64_t x = left + s * geometry_.window.dilation_w;
      if (x < 0 || x >= geometry_.in_w) {
        std::memset(patch, zero_, size);
      } else {
        std::memcpy(patch, row + x * geometry_.pixel, size);
      }
    }
  }

  size_t row_size_;
  size_t stride_;
};

bool check_shapes(const ConvParams& params, std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  if (!check_image(without_gaps(input), error) || !check_tensor(without_gaps(output), error)) {
    return false;
  }
  if (output.shape.rank != 4) {
    return fail(error, {"output ", describe(output), " must be [n, h, w, c]"});
  }
  if (!check_groups(params.groups, input, output, error)) return false;
  if (params.patches && params.groups != 1) {
    return fail(error, {"a convolution of gathered patches has one group"});
  }
  return check_window(params.window, input, output, error) && check_readable_behind(input, error) &&
         check_disjoint(input, output, error);
}

/// Returns whether a window's row is one run of bytes, and packed weights are the same if it is
/// taken for one tap.
bool has_runs(const ConvParams& params, const GemmLayerParams& layer) {
  const GemmKernel* kernel = find_gemm_kernel(layer.kernel);
  return kernel != nullptr && layer.k % (kernel->kr * 8u / kernel->bits) == 0 &&
         params.groups == 1 && !params.patches && params.window.dilation_w == 1 &&
         pixel_stride(params.input) == layer.k;
}

/// Returns whether each output pixel's window is the input pixel of the same index and those below.
bool is_column(const Window& window) {
  return window.kernel_w == 1 && window.stride_h == 1 && window.stride_w == 1 &&
         window.pad_top == 0 && window.pad_left == 0 && window.pad_bottom == 0 &&
         window.pad_right == 0;
}

}  // namespace

std::unique_ptr<Op> make_conv(const ConvParams& params, const PlanTarget& target,
                              std::string* error) {
  if (!check_shapes(params, error)) return nullptr;
  const ShallowKernel* shallow = find_shallow_kernel(params.kernel);
  if (shallow != nullptr) {
    if (!check_image(params.input, error) || !check_tensor(params.output, error)) return nullptr;
    return make_shallow_conv(params, *shallow, target, error);
  }
  const Window& window = params.window;
  const size_t channels = static_cast<size_t>(params.input.shape.dims[3]) / params.groups;
  GemmLayerParams layer_params;
  layer_params.kernel = params.kernel;
  layer_params.weights = params.weights;
  layer_params.groups = params.groups;
  layer_params.n = static_cast<size_t>(params.output.shape.dims[3]) / params.groups;
  layer_params.k = channels;
  if (!multiply({window.kernel_h, window.kernel_w}, &layer_params.taps)) {
    fail(error, {"the kernel is too large"});
    return nullptr;
  }
  if (params.patches) {
    if (!multiply({layer_params.taps, channels}, &layer_params.k)) {
      fail(error, {"the kernel is too large"});
      return nullptr;
    }
    layer_params.taps = 1;
  }
  if (has_runs(params, layer_params) && multiply({window.kernel_w, channels}, &layer_params.k)) {
    layer_params.taps = window.kernel_h;
  }
  layer_params.bias = params.bias;
  layer_params.multiplier = params.multiplier;
  layer_params.lo = params.lo;
  layer_params.hi = params.hi;
  layer_params.output = &params.output;
  layer_params.residual = &params.residual;
  layer_params.table = &params.table;
  layer_params.fused = params.fused;
  GemmLayer layer;
  if (!layer.init(layer_params, target, error)) return nullptr;
  const size_t pixels = element_count(params.output.shape, 0, 3);
  if (is_column(window) && window.kernel_h == 1) {
    return make_pointwise(std::move(layer), params.input, pixels, 0, target);
  }
  if (is_column(window) && !params.patches && params.input.shape.dims[0] == 1 &&
      layer.kernel().strided_taps) {
    const size_t row = static_cast<size_t>(params.input.shape.dims[2]) * pixel_stride(params.input);
    return make_pointwise(std::move(layer), params.input, pixels, window.dilation_h * row, target);
  }
  if (params.patches) return std::make_unique<PatchConv>(std::move(layer), params, target);
  return std::make_unique<PointerConv>(std::move(layer), params, target);
}

}  // namespace edgekit
