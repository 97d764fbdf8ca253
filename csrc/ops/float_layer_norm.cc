#include "ops/float_layer_norm.h"

#include "kernels/float_vector/float_vector.h"
#include "ops/check.h"
#include "ops/check_floats.h"

namespace edgekit {
namespace {

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

}  // namespace

std::unique_ptr<Op> make_float_layer_norm(const FloatLayerNormParams& params,
                                          const PlanTarget& target, std::string* error) {
  if (!check_float_pair(params.input, params.output, error)) return nullptr;
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

}  // namespace edgekit
