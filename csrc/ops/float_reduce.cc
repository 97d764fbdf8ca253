#include "ops/float_reduce.h"

#include "ops/check.h"
#include "ops/check_floats.h"

namespace edgekit {
namespace {

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

}  // namespace

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

}  // namespace edgekit
