#include "ops/float_softmax.h"

#include "kernels/float_vector/float_vector.h"
#include "ops/check.h"
#include "ops/check_floats.h"

namespace edgekit {
namespace {

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

}  // namespace

std::unique_ptr<Op> make_float_softmax(const FloatSoftmaxParams& params, const PlanTarget& target,
                                       std::string* error) {
  if (!check_float_pair(params.input, params.output, error)) return nullptr;
  return std::make_unique<FloatSoftmax>(params, target);
}

}  // namespace edgekit
