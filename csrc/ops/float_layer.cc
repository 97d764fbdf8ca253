#include "ops/float_layer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "ops/check.h"
#include "ops/check_floats.h"
#include "ops/round_up.h"

namespace edgekit {
namespace {

/// Below so many tiles of rows, threads share the columns instead: a fully connected layer has one
/// row.
constexpr size_t kFewTiles = 4;

/// Units are rows.
class FloatRows : public Op {
 public:
  FloatRows(FloatLayer layer, const TensorView& input, size_t rows)
      : layer_(std::move(layer)), input_(input.data), rows_(rows) {}

  size_t units() const override { return rows_; }
  size_t granule() const override { return layer_.kernel().mr; }
  size_t cost() const override { return layer_.cost(rows_); }

  void run(size_t begin, size_t end, uint8_t*) const override {
    const size_t width = layer_.groups() * layer_.k();
    const float* input = reinterpret_cast<const float*>(*input_) + begin * width;
    for (size_t g = 0; g < layer_.groups(); ++g) {
      FloatGemmArgs args = layer_.args(g, begin, end - begin);
      args.a = input + g * layer_.k();
      args.a_stride = width * sizeof(float);
      layer_.kernel().run(args);
    }
  }

 private:
  FloatLayer layer_;
  uint8_t* const* input_;
  size_t rows_;
};

/// Units are tiles of columns, for a layer of one group.
class FloatColumns : public Op {
 public:
  FloatColumns(FloatLayer layer, const TensorView& input, size_t rows)
      : layer_(std::move(layer)), input_(input.data), rows_(rows) {}

  size_t units() const override { return (layer_.n() + width() - 1) / width(); }
  size_t cost() const override { return layer_.cost(rows_); }

  void run(size_t begin, size_t end, uint8_t*) const override {
    const size_t first = begin * width();
    FloatGemmArgs args = layer_.args(0, 0, rows_);
    args.a = reinterpret_cast<const float*>(*input_);
    args.a_stride = layer_.k() * sizeof(float);
    args.n = std::min(end * width(), layer_.n()) - first;
    args.w += first * layer_.k();
    args.bias += first;
    args.y += first;
    if (args.residual != nullptr) args.residual += first;
    layer_.kernel().run(args);
  }

 private:
  size_t width() const { return layer_.kernel().nr; }

  FloatLayer layer_;
  uint8_t* const* input_;
  size_t rows_;
};

}  // namespace

bool check_float_epilogue(const FloatEpilogue& epilogue, size_t channels, const TensorView& output,
                          std::string* error) {
  if (!check_blob(epilogue.bias, channels, sizeof(float), "the bias", error) ||
      !check_float_bounds(epilogue.lo, epilogue.hi, error)) {
    return false;
  }
  if (!epilogue.adds) return true;
  if (!check_floats(epilogue.residual, error)) return false;
  if (!same_shape(epilogue.residual.shape, output.shape)) {
    return fail(error, {"residual ", describe(epilogue.residual), " and output ", describe(output),
                        " have different shapes"});
  }
  return check_disjoint(epilogue.residual, output, error);
}

std::vector<float> padded_floats(const Blob& blob, size_t unit) {
  std::vector<float> values(round_up(blob.size / sizeof(float), unit));
  std::memcpy(values.data(), blob.data, blob.size);
  return values;
}

bool FloatLayer::init(const FloatLayerParams& params, const PlanTarget& target,
                      std::string* error) {
  kernel_ = find_float_gemm_kernel(params.kernel);
  if (kernel_ == nullptr) return fail(error, {"kernel '", params.kernel, "' is unknown"});
  if (!check_kernel(kernel_->name, kernel_->isa, target.storage, kernel_->run != nullptr, target,
                    error) ||
      !check_float_epilogue(*params.epilogue, params.groups * params.n, *params.output, error)) {
    return false;
  }
  // No smaller than what packed_float_gemm_size() is about to compute, so that it can't overflow.
  if (!multiply({params.groups, params.n + kernel_->panel, params.taps, params.k, sizeof(float)},
                nullptr)) {
    return fail(error, {"the weights are too large"});
  }
  group_size_ = packed_float_gemm_size(*kernel_, params.n, params.k, params.taps);
  if (!weights_.init(params.weights, params.groups * group_size_, params.weight_bits, error)) {
    return false;
  }
  groups_ = params.groups;
  n_ = params.n;
  k_ = params.k;
  taps_ = params.taps;
  padded_n_ = round_up(n_, kernel_->panel);
  bias_.resize(groups_ * padded_n_);
  for (size_t g = 0; g < groups_; ++g) {
    std::memcpy(bias_.data() + g * padded_n_, params.epilogue->bias.data + g * n_ * sizeof(float),
                n_ * sizeof(float));
  }
  lo_ = params.epilogue->lo;
  hi_ = params.epilogue->hi;
  residual_ = params.epilogue->adds ? params.epilogue->residual.data : nullptr;
  output_ = params.output->data;
  return true;
}

FloatGemmArgs FloatLayer::args(size_t group, size_t row, size_t m) const {
  const size_t width = groups_ * n_;
  FloatGemmArgs args = {};
  args.m = m;
  args.n = n_;
  args.k = k_;
  args.taps = taps_;
  args.w = weights_.data() + group * group_size_;
  args.bias = bias_.data() + group * padded_n_;
  args.lo = lo_;
  args.hi = hi_;
  if (residual_ != nullptr) {
    args.residual = reinterpret_cast<const float*>(*residual_) + row * width + group * n_;
  }
  args.residual_stride = width * sizeof(float);
  args.y = reinterpret_cast<float*>(*output_) + row * width + group * n_;
  args.y_stride = width * sizeof(float);
  return args;
}

std::unique_ptr<Op> make_float_pointwise(FloatLayer layer, const TensorView& input, size_t rows) {
  const size_t tiles = (rows + layer.kernel().mr - 1) / layer.kernel().mr;
  if (tiles < kFewTiles && layer.groups() == 1) {
    return std::make_unique<FloatColumns>(std::move(layer), input, rows);
  }
  return std::make_unique<FloatRows>(std::move(layer), input, rows);
}

}  // namespace edgekit
