#include "ops/conv.h"

#include <cstring>
#include <utility>
#include <vector>

#include "ops/check.h"
#include "ops/pointwise.h"
#include "ops/shallow_conv.h"

namespace edgekit {
namespace {

/// Output pixels whose patches or row pointers are gathered at a time.
constexpr size_t kBlockPixels = 64;

/// Row pointers gathered at a time, unless one tile needs more.
constexpr size_t kBlockPointers = 4096;

/// What GemmArgs promises behind each row.
constexpr size_t kReadBehind = 64;

size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

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

  void advance() {
    if (++x_ < g_.out_w) return;
    x_ = 0;
    if (++y_ < g_.out_h) return;
    y_ = 0;
    ++image_;
  }

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

/// General convolution: one row pointer for each pixel and tap, a row of zero points for the
/// padding.
class PointerConv : public BlockedConv {
 public:
  PointerConv(GemmLayer layer, const ConvParams& params, const PlanTarget& target)
      : BlockedConv(std::move(layer), params, target), zero_row_(layer_.k() + kReadBehind, zero_) {
    const size_t pixels = kBlockPointers / layer_.taps();
    set_block(pixels < kBlockPixels ? pixels : kBlockPixels);
  }

  size_t scratch_size() const override { return block_ * layer_.taps() * sizeof(uint8_t*); }

 private:
  void run_block(size_t first, size_t count, uint8_t* scratch) const override {
    const uint8_t** rows = reinterpret_cast<const uint8_t**>(scratch);
    for (size_t g = 0; g < layer_.groups(); ++g) {
      gather(first, count, g * layer_.k(), rows);
      GemmArgs args = layer_.args(g, first, count);
      args.rows = rows;
      layer_.run(args);
    }
  }

  void gather(size_t first, size_t count, size_t channel, const uint8_t** rows) const {
    const Window& window = geometry_.window;
    Position position(geometry_, first);
    for (size_t i = 0; i < count; ++i, position.advance()) {
      for (int64_t r = 0; r < window.kernel_h; ++r) {
        const uint8_t* row = position.row(*input_, r);
        for (int64_t s = 0; s < window.kernel_w; ++s) {
          const int64_t x = position.left() + s * window.dilation_w;
          const bool inside = row != nullptr && x >= 0 && x < geometry_.in_w;
          *rows++ = inside ? row + x * geometry_.pixel + channel : zero_row_.data();
        }
      }
    }
  }

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
  const uint64_t groups = params.groups;
  if (groups == 0 || static_cast<uint64_t>(input.shape.dims[3]) % groups != 0 ||
      static_cast<uint64_t>(output.shape.dims[3]) % groups != 0) {
    return fail(error, {"the channels of input ", describe(input), " and output ", describe(output),
                        " can't be cut into ", std::to_string(groups), " groups"});
  }
  if (params.patches && groups != 1) {
    return fail(error, {"a convolution of gathered patches has one group"});
  }
  return check_window(params.window, input, output, error) && check_readable_behind(input, error) &&
         check_disjoint(input, output, error);
}

bool is_pointwise(const Window& window) {
  return window.kernel_h == 1 && window.kernel_w == 1 && window.stride_h == 1 &&
         window.stride_w == 1 && window.pad_top == 0 && window.pad_left == 0 &&
         window.pad_bottom == 0 && window.pad_right == 0;
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
  layer_params.bias = params.bias;
  layer_params.multiplier = params.multiplier;
  layer_params.lo = params.lo;
  layer_params.hi = params.hi;
  layer_params.output = &params.output;
  layer_params.residual = &params.residual;
  layer_params.table = &params.table;
  GemmLayer layer;
  if (!layer.init(layer_params, target, error)) return nullptr;
  if (is_pointwise(window)) {
    return make_pointwise(std::move(layer), params.input, element_count(params.output.shape, 0, 3),
                          target);
  }
  if (params.patches) return std::make_unique<PatchConv>(std::move(layer), params, target);
  return std::make_unique<PointerConv>(std::move(layer), params, target);
}

}  // namespace edgekit
