#include "ops/float_reduce.h"

#include <utility>
#include <vector>

#include "ops/check.h"
#include "ops/float_layer.h"

namespace edgekit {
namespace {

constexpr size_t kMaxTaps = size_t{1} << 20u;

/// Units are output pixels. Scratch: pointers to a window's elements.
class FloatPool : public Op {
 public:
  FloatPool(const FloatPoolParams& params, const PlanTarget& target)
      : window_(params.window),
        reduction_(params.kind == PoolKind::kMax ? FloatReduction::kMax : FloatReduction::kMean),
        count_include_pad_(params.count_include_pad),
        input_(params.input.data),
        output_(params.output.data),
        in_h_(params.input.shape.dims[1]),
        in_w_(params.input.shape.dims[2]),
        channels_(static_cast<size_t>(params.input.shape.dims[3])),
        out_h_(static_cast<size_t>(params.output.shape.dims[1])),
        out_w_(static_cast<size_t>(params.output.shape.dims[2])),
        pixels_(element_count(params.output.shape, 0, 3)),
        kernel_(select_float_vector(target.isa).window) {}

  size_t units() const override { return pixels_; }
  size_t cost() const override { return pixels_ * channels_ * taps(); }
  size_t scratch_size() const override { return taps() * sizeof(float*); }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    auto* pointers = reinterpret_cast<const float**>(scratch);
    for (size_t pixel = begin; pixel < end; ++pixel) {
      const size_t count = gather(pixel, pointers);
      const size_t divisor = count_include_pad_ ? taps() : count;
      kernel_({reduction_, static_cast<float>(divisor), count, pointers, channels_,
               reinterpret_cast<float*>(*output_) + pixel * channels_});
    }
  }

 private:
  size_t taps() const { return size_t{window_.kernel_h} * window_.kernel_w; }

  /// Finds the elements of a pixel's window that lie in the image; returns their number.
  size_t gather(size_t pixel, const float** pointers) const {
    const auto row = static_cast<int64_t>(pixel / out_w_ % out_h_);
    const auto column = static_cast<int64_t>(pixel % out_w_);
    const size_t image = pixel / out_w_ / out_h_;
    const float* x = reinterpret_cast<const float*>(*input_) +
                     image * static_cast<size_t>(in_h_ * in_w_) * channels_;
    size_t count = 0;
    for (int64_t r = 0; r < window_.kernel_h; ++r) {
      const int64_t y = row * window_.stride_h + r * window_.dilation_h - window_.pad_top;
      if (y < 0 || y >= in_h_) continue;
      for (int64_t s = 0; s < window_.kernel_w; ++s) {
        const int64_t at = column * window_.stride_w + s * window_.dilation_w - window_.pad_left;
        if (at < 0 || at >= in_w_) continue;
        pointers[count++] = x + static_cast<size_t>(y * in_w_ + at) * channels_;
      }
    }
    return count;
  }

  Window window_;
  FloatReduction reduction_;
  bool count_include_pad_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  int64_t in_h_;
  int64_t in_w_;
  size_t channels_;
  size_t out_h_;
  size_t out_w_;
  size_t pixels_;
  void (*kernel_)(const FloatWindowArgs&);
};

/// Units are rows: of the output's elements where the last dimensions are reduced, else of what
/// lies before the reduced ones. Scratch: pointers to the elements that come together.
class FloatReduce : public Op {
 public:
  FloatReduce(const FloatReduceParams& params, const PlanTarget& target)
      : reduction_(params.reduction),
        input_(params.input.data),
        output_(params.output.data),
        outer_(element_count(params.input.shape, 0, params.begin)),
        n_(element_count(params.input.shape, params.begin, params.end)),
        inner_(element_count(params.input.shape, params.end, params.input.shape.rank)),
        kernels_(select_float_vector(target.isa)) {}

  size_t units() const override { return outer_; }
  size_t cost() const override { return outer_ * n_ * inner_; }
  size_t scratch_size() const override { return inner_ == 1 ? 0 : n_ * sizeof(float*); }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    const float* x = reinterpret_cast<const float*>(*input_) + begin * n_ * inner_;
    float* y = reinterpret_cast<float*>(*output_) + begin * inner_;
    const auto divisor = static_cast<float>(n_);
    if (inner_ == 1) {
      kernels_.reduce({reduction_, divisor, end - begin, n_, x, y});
      return;
    }
    auto* pointers = reinterpret_cast<const float**>(scratch);
    for (size_t unit = begin; unit < end; ++unit, y += inner_) {
      for (size_t i = 0; i < n_; ++i, x += inner_) pointers[i] = x;
      kernels_.window({reduction_, divisor, n_, pointers, inner_, y});
    }
  }

 private:
  FloatReduction reduction_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  size_t outer_;
  size_t n_;
  size_t inner_;
  const FloatVectorKernels& kernels_;
};

/// Units are rows of n elements.
class FloatSoftmax : public Op {
 public:
  FloatSoftmax(const FloatSoftmaxParams& params, const PlanTarget& target)
      : rows_(element_count(params.input.shape, 0, params.input.shape.rank - 1)),
        n_(static_cast<size_t>(params.input.shape.dims[params.input.shape.rank - 1])),
        input_(params.input.data),
        output_(params.output.data),
        kernel_(select_float_vector(target.isa).softmax) {}

  size_t units() const override { return rows_; }
  size_t cost() const override { return rows_ * n_ * 8; }

  void run(size_t begin, size_t end, uint8_t*) const override {
    kernel_({end - begin, n_, reinterpret_cast<const float*>(*input_) + begin * n_,
             reinterpret_cast<float*>(*output_) + begin * n_});
  }

 private:
  size_t rows_;
  size_t n_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  void (*kernel_)(const FloatSoftmaxArgs&);
};

/// Units are rows of n elements.
class FloatLayerNorm : public Op {
 public:
  FloatLayerNorm(const FloatLayerNormParams& params, size_t n, const PlanTarget& target)
      : rows_(element_count(params.input.shape) / n),
        input_(params.input.data),
        output_(params.output.data),
        kernel_(select_float_vector(target.isa).norm) {
    args_.n = n;
    args_.epsilon = params.epsilon;
    args_.scale = reinterpret_cast<const float*>(params.scale.data);
    args_.bias = reinterpret_cast<const float*>(params.bias.data);
  }

  size_t units() const override { return rows_; }
  size_t cost() const override { return rows_ * args_.n * 4; }

  void run(size_t begin, size_t end, uint8_t*) const override {
    FloatNormArgs args = args_;
    args.rows = end - begin;
    args.x = reinterpret_cast<const float*>(*input_) + begin * args.n;
    args.y = reinterpret_cast<float*>(*output_) + begin * args.n;
    kernel_(args);
  }

 private:
  size_t rows_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  FloatNormArgs args_ = {};
  void (*kernel_)(const FloatNormArgs&);
};

/// Where an output's row or column comes from.
struct Source {
  size_t first;
  size_t second;
  float weight;
};

/// Units are output rows of all images.
class FloatResize : public Op {
 public:
  FloatResize(const FloatResizeParams& params, std::vector<Source> rows,
              std::vector<Source> columns)
      : rows_(std::move(rows)),
        columns_(std::move(columns)),
        input_(params.input.data),
        output_(params.output.data),
        images_(static_cast<size_t>(params.input.shape.dims[0])),
        in_h_(static_cast<size_t>(params.input.shape.dims[1])),
        in_w_(static_cast<size_t>(params.input.shape.dims[2])),
        channels_(static_cast<size_t>(params.input.shape.dims[3])) {}

  size_t units() const override { return images_ * rows_.size(); }
  size_t cost() const override { return units() * columns_.size() * channels_ * 4; }

  void run(size_t begin, size_t end, uint8_t*) const override {
    for (size_t unit = begin; unit < end; ++unit) {
      const Source& row = rows_[unit % rows_.size()];
      const float* image =
          reinterpret_cast<const float*>(*input_) + unit / rows_.size() * in_h_ * in_w_ * channels_;
      const float* top = image + row.first * in_w_ * channels_;
      const float* bottom = image + row.second * in_w_ * channels_;
      float* y = reinterpret_cast<float*>(*output_) + unit * columns_.size() * channels_;
      for (const Source& column : columns_) {
        const size_t left = column.first * channels_;
        const size_t right = column.second * channels_;
        for (size_t c = 0; c < channels_; ++c) {
          const float upper = mix(top[left + c], top[right + c], column.weight);
          const float lower = mix(bottom[left + c], bottom[right + c], column.weight);
          y[c] = mix(upper, lower, row.weight);
        }
        y += channels_;
      }
    }
  }

 private:
  static float mix(float a, float b, float weight) {
    return weight == 0.0F ? a : (1.0F - weight) * a + weight * b;
  }

  std::vector<Source> rows_;
  std::vector<Source> columns_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  size_t images_;
  size_t in_h_;
  size_t in_w_;
  size_t channels_;
};

/// Returns whether some position along an axis covers nothing but padding.
bool covers_padding_only(uint32_t kernel, uint32_t stride, uint32_t dilation, uint32_t pad,
                         int64_t in, int64_t out) {
  for (int64_t position = 0; position < out; ++position) {
    const int64_t first = position * stride - pad;
    // The first tap that is not before the image.
    const int64_t tap = first >= 0 ? 0 : (-first + dilation - 1) / dilation;
    if (tap >= kernel || first + tap * dilation >= in) return true;
  }
  return false;
}

bool check_images(const TensorView& input, const TensorView& output, std::string* error) {
  if (!check_floats(input, error) || !check_floats(output, error)) return false;
  const int64_t* in = input.shape.dims;
  const int64_t* out = output.shape.dims;
  if (input.shape.rank != 4 || output.shape.rank != 4 || in[0] != out[0] || in[3] != out[3]) {
    return fail(error, {"input ", describe(input), " and output ", describe(output),
                        " must be [n, h, w, c] of the same images and channels"});
  }
  return check_disjoint(input, output, error);
}

bool check_pair(const TensorView& input, const TensorView& output, std::string* error) {
  if (!check_floats(input, error) || !check_floats(output, error)) return false;
  if (input.shape.rank == 0 || !same_shape(input.shape, output.shape)) {
    return fail(error, {"input ", describe(input), " and output ", describe(output),
                        " must have the same shape and a last dimension"});
  }
  return check_disjoint_or_same(input, output, error);
}

/// Reads where rows or columns come from; false where one is outside of `size`.
bool read_sources(const Blob& indices, const Blob& weights, int64_t count, int64_t size,
                  std::vector<Source>* sources, std::string* error) {
  const auto outputs = static_cast<size_t>(count);
  if (!check_blob(indices, 2 * outputs, sizeof(int32_t), "the list of sources", error) ||
      !check_blob(weights, outputs, sizeof(float), "the list of weights", error)) {
    return false;
  }
  const auto* pairs = reinterpret_cast<const int32_t*>(indices.data);
  const auto* factors = reinterpret_cast<const float*>(weights.data);
  for (size_t i = 0; i < outputs; ++i) {
    const int32_t first = pairs[2 * i];
    const int32_t second = pairs[2 * i + 1];
    if (first < 0 || first >= size || second < 0 || second >= size ||
        !(factors[i] >= 0 && factors[i] <= 1)) {
      return fail(error, {"source ", std::to_string(i), " lies outside of the image"});
    }
    sources->push_back({static_cast<size_t>(first), static_cast<size_t>(second), factors[i]});
  }
  return true;
}

}  // namespace

std::unique_ptr<Op> make_float_pool(const FloatPoolParams& params, const PlanTarget& target,
                                    std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  const Window& w = params.window;
  if (!check_images(input, output, error) || !check_window(w, input, output, error)) return nullptr;
  if (params.kind > PoolKind::kAverage || uint64_t{w.kernel_h} * w.kernel_w > kMaxTaps) {
    fail(error, {"the kind of pool is unknown, or its window has more than 2^20 elements"});
    return nullptr;
  }
  const int64_t* in = input.shape.dims;
  const int64_t* out = output.shape.dims;
  if (covers_padding_only(w.kernel_h, w.stride_h, w.dilation_h, w.pad_top, in[1], out[1]) ||
      covers_padding_only(w.kernel_w, w.stride_w, w.dilation_w, w.pad_left, in[2], out[2])) {
    fail(error, {"a window covers nothing but padding"});
    return nullptr;
  }
  return std::make_unique<FloatPool>(params, target);
}

std::unique_ptr<Op> make_float_reduce(const FloatReduceParams& params, const PlanTarget& target,
                                      std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  if (!check_floats(input, error) || !check_floats(output, error) ||
      !check_disjoint(input, output, error)) {
    return nullptr;
  }
  const size_t rank = input.shape.rank;
  if (params.reduction > kLastFloatReduction || params.begin > params.end || params.end > rank ||
      element_count(input.shape, 0, params.begin) * element_count(input.shape, params.end, rank) !=
          element_count(output.shape)) {
    fail(error, {"input ", describe(input), " does not reduce to output ", describe(output)});
    return nullptr;
  }
  return std::make_unique<FloatReduce>(params, target);
}

std::unique_ptr<Op> make_float_softmax(const FloatSoftmaxParams& params, const PlanTarget& target,
                                       std::string* error) {
  if (!check_pair(params.input, params.output, error)) return nullptr;
  return std::make_unique<FloatSoftmax>(params, target);
}

std::unique_ptr<Op> make_float_layer_norm(const FloatLayerNormParams& params,
                                          const PlanTarget& target, std::string* error) {
  if (!check_pair(params.input, params.output, error)) return nullptr;
  const size_t n = params.scale.size / sizeof(float);
  bool whole = false;
  for (size_t i = 0; i < params.input.shape.rank; ++i) {
    whole |= element_count(params.input.shape, i, params.input.shape.rank) == n;
  }
  if (!whole || !(params.epsilon >= 0)) {
    fail(error, {"the scale is not that of the last dimensions of ", describe(params.input),
                 ", or epsilon is negative"});
    return nullptr;
  }
  if (!check_blob(params.scale, n, sizeof(float), "the scale", error) ||
      !check_blob(params.bias, n, sizeof(float), "the bias", error)) {
    return nullptr;
  }
  return std::make_unique<FloatLayerNorm>(params, n, target);
}

std::unique_ptr<Op> make_float_resize(const FloatResizeParams& params, const PlanTarget&,
                                      std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  std::vector<Source> rows;
  std::vector<Source> columns;
  if (!check_images(input, output, error) ||
      !read_sources(params.rows, params.row_weights, output.shape.dims[1], input.shape.dims[1],
                    &rows, error) ||
      !read_sources(params.columns, params.column_weights, output.shape.dims[2],
                    input.shape.dims[2], &columns, error)) {
    return nullptr;
  }
  return std::make_unique<FloatResize>(params, std::move(rows), std::move(columns));
}

}  // namespace edgekit
