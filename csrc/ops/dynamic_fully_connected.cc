#include "ops/dynamic_fully_connected.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/float_vector/float_vector.h"
#include "ops/check.h"
#include "ops/check_floats.h"
#include "ops/gemm_layer.h"
#include "ops/round_up.h"
#include "ops/row_codes.h"

namespace edgekit {
namespace {

/// Rows whose codes are made before they are multiplied: enough for the weights to be read seldom.
constexpr size_t kBlockRows = 128;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Units are rows. Scratch holds the codes of a block, and behind them its scales.
class DynamicFullyConnected : public Op {
 public:
  DynamicFullyConnected(GemmLayer layer, const DynamicFullyConnectedParams& params, size_t rows,
                        const PlanTarget& target)
      : layer_(std::move(layer)),
        input_(params.input.data),
        bias_(reinterpret_cast<const float*>(params.bias.data)),
        rows_(rows),
        whole_(params.whole),
        row_codes_(target),
        vector_(select_float_vector(target.isa)) {
    const size_t mr = layer_.kernel().mr;
    block_ = std::max(kBlockRows / mr, size_t{1}) * mr;
    codes_size_ = round_up(std::min(block_, rows_) * layer_.k() + kLineSize, kLineSize);
  }

  size_t units() const override { return rows_; }
  size_t granule() const override { return layer_.kernel().mr; }
  size_t cost() const override { return layer_.cost(rows_); }
  size_t scratch_size() const override {
    return codes_size_ + std::min(block_, rows_) * sizeof(float);
  }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    auto* scales = reinterpret_cast<float*>(scratch + codes_size_);
    const auto* input = reinterpret_cast<const float*>(*input_);
    const size_t k = layer_.k();
    // Each thread looks for it by itself: reading is quick beside multiplying.
    const float scale = whole_ ? row_codes_.find_scale(input, rows_ * k) : 0.0F;
    for (size_t row = begin; row < end; row += block_) {
      const size_t count = std::min(block_, end - row);
      if (whole_) {
        row_codes_.make_by(scale, input + row * k, count, k, scratch, scales);
      } else {
        row_codes_.make(input + row * k, count, k, scratch, scales);
      }
      GemmArgs args = layer_.args(0, row, count);
      args.a = scratch;
      args.a_stride = k;
      layer_.run(args);
      auto* y = static_cast<float*>(args.y);
      for (size_t i = 0; i < count; ++i) finish(y + i * layer_.n(), scales + i);
    }
  }

 private:
  /// Takes the products of a row times its scale, and adds the bias.
  void finish(float* y, const float* scale) const {
    const size_t n = layer_.n();
    vector_.binary({FloatOperator::kMul, -kInfinity, kInfinity, n, y, 1, scale, 0, y});
    vector_.binary({FloatOperator::kAdd, -kInfinity, kInfinity, n, y, 1, bias_, 1, y});
  }

  GemmLayer layer_;
  uint8_t* const* input_;
  const float* bias_;
  size_t rows_;
  bool whole_;
  size_t block_ = 0;
  size_t codes_size_ = 0;
  RowCodes row_codes_;
  const FloatVectorKernels& vector_;
};

}  // namespace

std::unique_ptr<Op> make_dynamic_fully_connected(const DynamicFullyConnectedParams& params,
                                                 const PlanTarget& target, std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  if (!check_floats(input, error) || !check_floats(output, error) ||
      !check_disjoint(input, output, error) || !check_same_rows(input, output, error)) {
    return nullptr;
  }
  const Shape& in = input.shape;
  const Shape& out = output.shape;
  const size_t rows = element_count(in, 0, in.rank - 1);
  const Residual no_residual;
  const FusedTable no_table;
  GemmLayerParams layer_params;
  layer_params.kernel = params.kernel;
  layer_params.weights = params.weights;
  layer_params.groups = 1;
  layer_params.n = static_cast<size_t>(out.dims[out.rank - 1]);
  layer_params.k = static_cast<size_t>(in.dims[in.rank - 1]);
  layer_params.taps = 1;
  layer_params.bias = params.correction;
  layer_params.multiplier = params.multiplier;
  layer_params.lo = INT8_MIN;
  layer_params.hi = INT8_MAX;
  layer_params.output = &output;
  layer_params.residual = &no_residual;
  layer_params.table = &no_table;
  GemmLayer layer;
  if (!layer.init(layer_params, target, error) ||
      !check_blob(params.bias, layer.n(), sizeof(float), "the bias", error) ||
      !multiply({layer.k(), kBlockRows + layer.kernel().mr}, nullptr)) {
    return nullptr;
  }
  return std::make_unique<DynamicFullyConnected>(std::move(layer), params, rows, target);
}

}  // namespace edgekit
