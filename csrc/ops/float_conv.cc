#include "ops/float_conv.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "ops/check.h"
#include "ops/check_floats.h"

namespace edgekit {
namespace {

/// Output pixels whose patches or row pointers are gathered at a time.
constexpr size_t kBlockPixels = 96;

/// Row pointers gathered at a time, unless one tile needs more.
constexpr size_t kBlockPointers = 4096;

/// Floats of a row of a patch that are copied at once.
constexpr size_t kChunk = 16;

/// Walks over the output pixels of images, and says where their windows lie in the input.
class Windows {
 public:
  Windows(const Window& window, const Shape& in, const Shape& out)
      : window_(window),
        in_h_(in.dims[1]),
        in_w_(in.dims[2]),
        channels_(static_cast<size_t>(in.dims[3])),
        out_h_(static_cast<size_t>(out.dims[1])),
        out_w_(static_cast<size_t>(out.dims[2])) {}

  size_t channels() const { return channels_; }
  const Window& window() const { return window_; }

  /// Returns whether the window of output pixel `pixel` covers columns side by side inside the
  /// image.
  bool has_whole_rows(size_t pixel) const {
    const int64_t left = static_cast<int64_t>(pixel % out_w_) * window_.stride_w -
                         static_cast<int64_t>(window_.pad_left);
    return window_.dilation_w == 1 && left >= 0 && left + window_.kernel_w <= in_w_;
  }

  /// Calls use(pointer) for each row of the window of a pixel for which has_whole_rows() holds:
  /// where its elements begin, or null in the padding.
  template <class Use>
  void for_each_row(const float* input, size_t pixel, const Use& use) const {
    const size_t image = pixel / out_w_ / out_h_;
    const int64_t top = static_cast<int64_t>(pixel / out_w_ % out_h_) * window_.stride_h -
                        static_cast<int64_t>(window_.pad_top);
    const size_t left = pixel % out_w_ * window_.stride_w - window_.pad_left;
    for (int64_t r = 0; r < window_.kernel_h; ++r) {
      const int64_t y = top + r * window_.dilation_h;
      const size_t row = image * static_cast<size_t>(in_h_) + static_cast<size_t>(y);
      const bool inside = y >= 0 && y < in_h_;
      use(inside ? input + (row * static_cast<size_t>(in_w_) + left) * channels_ : nullptr);
    }
  }

  /// Calls use(pointer) for each tap of output pixel `pixel`: where its channels lie, or null in
  /// the padding.
  template <class Use>
  void for_each_tap(const float* input, size_t pixel, const Use& use) const {
    const size_t image = pixel / out_w_ / out_h_;
    const int64_t top = static_cast<int64_t>(pixel / out_w_ % out_h_) * window_.stride_h -
                        static_cast<int64_t>(window_.pad_top);
    const int64_t left = static_cast<int64_t>(pixel % out_w_) * window_.stride_w -
                         static_cast<int64_t>(window_.pad_left);
    const float* first = input + image * static_cast<size_t>(in_h_ * in_w_) * channels_;
    for (int64_t r = 0; r < window_.kernel_h; ++r) {
      const int64_t y = top + r * window_.dilation_h;
      const bool inside = y >= 0 && y < in_h_;
      for (int64_t s = 0; s < window_.kernel_w; ++s) {
        const int64_t x = left + s * window_.dilation_w;
        const bool hit = inside && x >= 0 && x < in_w_;
        use(hit ? first + static_cast<size_t>(y * in_w_ + x) * channels_ : nullptr);
      }
    }
  }

 private:
  Window window_;
  int64_t in_h_;
  int64_t in_w_;
  size_t channels_;
  size_t out_h_;
  size_t out_w_;
};

/// Units are output pixels. What a block of them needs is gathered, then multiplied: one pointer
/// for each pixel, group and tap, or whole patches.
class FloatConv : public Op {
 public:
  FloatConv(FloatLayer layer, const FloatConvParams& params)
      : layer_(std::move(layer)),
        windows_(params.window, params.input.shape, params.output.shape),
        input_(params.input.data),
        pixels_(element_count(params.output.shape, 0, 3)),
        input_size_(element_count(params.input.shape)),
        patches_(params.patches),
        zeros_(layer_.k()) {
    const size_t mr = layer_.kernel().mr;
    const size_t most = patches_ ? kBlockPixels : kBlockPointers / layer_.taps();
    block_ = std::max(std::min(most, kBlockPixels) / mr * mr, mr);
  }

  size_t units() const override { return pixels_; }
  size_t granule() const override { return layer_.kernel().mr; }
  size_t cost() const override { return layer_.cost(pixels_); }
  size_t scratch_size() const override {
    if (!patches_) return block_ * layer_.taps() * sizeof(float*);
    return (block_ * layer_.k() + kChunk) * sizeof(float);
  }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    for (size_t first = begin; first < end; first += block_) {
      const size_t count = std::min(block_, end - first);
      if (patches_) {
        run_patches(first, count, reinterpret_cast<float*>(scratch));
      } else {
        run_pointers(first, count, reinterpret_cast<const float**>(scratch));
      }
    }
  }

 private:
  void run_pointers(size_t first, size_t count, const float** rows) const {
    const float* input = reinterpret_cast<const float*>(*input_);
    for (size_t g = 0; g < layer_.groups(); ++g) {
      const float** next = rows;
      for (size_t i = 0; i < count; ++i) {
        windows_.for_each_tap(input, first + i, [&](const float* tap) {
          *next++ = tap != nullptr ? tap + g * layer_.k() : zeros_.data();
        });
      }
      FloatGemmArgs args = layer_.args(g, first, count);
      args.rows = rows;
      layer_.kernel().run(args);
    }
  }

  void run_patches(size_t first, size_t count, float* patches) const {
    const float* input = reinterpret_cast<const float*>(*input_);
    const size_t channels = windows_.channels();
    const size_t row_floats = windows_.window().kernel_w * channels;
    // A copy of fixed size where a short row is not worth a call; its end is overwritten by what is
    // copied next, or lies behind the patches.
    const float* last_chunk = input + input_size_ - std::min(input_size_, kChunk);
    const bool short_rows = row_floats <= kChunk && input_size_ >= kChunk;
    float* to = patches;
    for (size_t i = 0; i < count; ++i) {
      if (windows_.has_whole_rows(first + i)) {
        windows_.for_each_row(input, first + i, [&](const float* row) {
          if (row != nullptr && short_rows && row <= last_chunk) {
            std::memcpy(to, row, kChunk * sizeof(float));
          } else if (row != nullptr) {
            std::memcpy(to, row, row_floats * sizeof(float));
          } else {
            std::memset(to, 0, row_floats * sizeof(float));
          }
          to += row_floats;
        });
        continue;
      }
      windows_.for_each_tap(input, first + i, [&](const float* tap) {
        for (size_t c = 0; c < channels; ++c) to[c] = tap != nullptr ? tap[c] : 0.0F;
        to += channels;
      });
    }
    FloatGemmArgs args = layer_.args(0, first, count);
    args.a = patches;
    args.a_stride = layer_.k() * sizeof(float);
    layer_.kernel().run(args);
  }

  FloatLayer layer_;
  Windows windows_;
  uint8_t* const* input_;
  size_t pixels_;
  size_t input_size_;
  bool patches_;
  std::vector<float> zeros_;
  size_t block_;
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
  const auto in = static_cast<uint64_t>(params.input.shape.dims[3]);
  const auto out = static_cast<uint64_t>(params.output.shape.dims[3]);
  const uint64_t groups = params.groups;
  if (groups == 0 || in % groups != 0 || out % groups != 0 || (params.patches && groups != 1)) {
    fail(error,
         {"the channels of input ", describe(params.input), " and output ", describe(params.output),
          " can't be cut into ", std::to_string(groups), " groups"});
    return nullptr;
  }
  FloatLayerParams layer_params;
  layer_params.kernel = params.kernel;
  layer_params.weights = params.weights;
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
  if (params.patches) {
    layer_params.k *= layer_params.taps;
    layer_params.taps = 1;
  }
  FloatLayer layer;
  if (!layer.init(layer_params, target, error)) return nullptr;
  if (is_pointwise(params.window)) {
    return make_float_pointwise(std::move(layer), params.input,
                                element_count(params.output.shape, 0, 3));
  }
  return std::make_unique<FloatConv>(std::move(layer), params);
}

}  // namespace edgekit
