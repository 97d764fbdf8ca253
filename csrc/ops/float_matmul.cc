#include "ops/float_matmul.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "ops/check.h"
#include "ops/check_floats.h"
#include "ops/matrices.h"

namespace edgekit {
namespace {

/// Units are tiles of rows of all batches. Each thread packs the second matrix of a batch when it
/// gets there.
class FloatMatMul : public Op {
 public:
  FloatMatMul(const FloatMatMulParams& params, const FloatGemmKernel& kernel,
              const Matrices& matrices)
      : kernel_(kernel),
        a_(params.a.data),
        b_(params.b.data),
        output_(params.output.data),
        transposed_(params.transposed),
        shared_(matrices.shared),
        batches_(matrices.batches),
        m_(matrices.m),
        k_(matrices.k),
        n_(matrices.n),
        tiles_((m_ + kernel.mr - 1) / kernel.mr),
        bias_((n_ + kernel.panel - 1) / kernel.panel * kernel.panel) {}

  size_t units() const override { return batches_ * tiles_; }
  /// Whole matrices, so that each is packed once.
  size_t granule() const override { return batches_ > 1 ? tiles_ : 1; }
  size_t cost() const override { return batches_ * m_ * k_ * n_; }
  size_t scratch_size() const override {
    return packed_float_gemm_size(kernel_, n_, k_, 1) * sizeof(float);
  }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    auto* packed = reinterpret_cast<float*>(scratch);
    size_t known = batches_;
    while (begin < end) {
      const size_t batch = begin / tiles_;
      const size_t tile = begin % tiles_;
      const size_t count = std::min(end - begin, tiles_ - tile);
      if (known == batches_ || (batch != known && !shared_)) pack(batch, packed);
      known = batch;
      const size_t row = tile * kernel_.mr;
      FloatGemmArgs args = {};
      args.m = std::min(count * kernel_.mr, m_ - row);
      args.n = n_;
      args.k = k_;
      args.taps = 1;
      args.a = reinterpret_cast<const float*>(*a_) + (batch * m_ + row) * k_;
      args.a_stride = k_ * sizeof(float);
      args.w = packed;
      args.bias = bias_.data();
      args.lo = -std::numeric_limits<float>::infinity();
      args.hi = std::numeric_limits<float>::infinity();
      args.y = reinterpret_cast<float*>(*output_) + (batch * m_ + row) * n_;
      args.y_stride = n_ * sizeof(float);
      kernel_.run(args);
      begin += count;
    }
  }

 private:
  void pack(size_t batch, float* packed) const {
    const float* b = reinterpret_cast<const float*>(*b_) + (shared_ ? 0 : batch * k_ * n_);
    pack_float_gemm(kernel_, b, transposed_ ? k_ : 1, transposed_ ? 1 : n_, n_, k_, 1, packed);
  }

  const FloatGemmKernel& kernel_;
  uint8_t* const* a_;
  uint8_t* const* b_;
  uint8_t* const* output_;
  bool transposed_;
  /// Whether all batches take the same second matrix.
  bool shared_;
  size_t batches_;
  size_t m_;
  size_t k_;
  size_t n_;
  size_t tiles_;
  std::vector<float> bias_;
};

}  // namespace

std::unique_ptr<Op> make_float_fully_connected(const FloatFullyConnectedParams& params,
                                               const PlanTarget& target, std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  if (!check_floats(input, error) || !check_floats(output, error) ||
      !check_disjoint(input, output, error) || !check_same_rows(input, output, error)) {
    return nullptr;
  }
  const Shape& in = input.shape;
  const Shape& out = output.shape;
  FloatLayerParams layer_params;
  layer_params.kernel = params.kernel;
  layer_params.weights = params.weights;
  layer_params.weight_bits = params.weight_bits;
  layer_params.groups = 1;
  layer_params.n = static_cast<size_t>(out.dims[out.rank - 1]);
  layer_params.k = static_cast<size_t>(in.dims[in.rank - 1]);
  layer_params.taps = 1;
  layer_params.epilogue = &params.epilogue;
  layer_params.output = &output;
  FloatLayer layer;
  if (!layer.init(layer_params, target, error)) return nullptr;
  return make_float_pointwise(std::move(layer), input, element_count(in, 0, in.rank - 1));
}

std::unique_ptr<Op> make_float_matmul(const FloatMatMulParams& params, const PlanTarget& target,
                                      std::string* error) {
  Matrices matrices;
  if (!check_floats(params.a, error) || !check_floats(params.b, error) ||
      !check_floats(params.output, error) ||
      !find_matrices(params.a, params.b, params.output, params.transposed, &matrices, error)) {
    return nullptr;
  }
  const FloatGemmKernel* kernel = find_float_gemm_kernel(params.kernel);
  if (kernel == nullptr) {
    fail(error, {"kernel '", params.kernel, "' is unknown"});
    return nullptr;
  }
  if (!check_kernel(kernel->name, kernel->isa, target.storage, kernel->run != nullptr, target,
                    error)) {
    return nullptr;
  }
  if (!multiply({matrices.n + kernel->panel, matrices.k, sizeof(float)}, nullptr)) {
    fail(error, {"the matrices are too large"});
    return nullptr;
  }
  return std::make_unique<FloatMatMul>(params, *kernel, matrices);
}

}  // namespace edgekit
