#include "ops/arg_extreme.h"

#include "ops/check.h"

namespace edgekit {
namespace {

/// Units are elements of the output.
template <typename T>
class ArgExtreme : public Op {
 public:
  explicit ArgExtreme(const ArgExtremeParams& params)
      : extreme_(params.extreme),
        last_(params.last),
        input_(params.input.data),
        output_(params.output.data),
        n_(static_cast<size_t>(params.input.shape.dims[params.axis])),
        inner_(element_count(params.input.shape, params.axis + 1, params.input.shape.rank)),
        size_(element_count(params.output.shape)) {}

  size_t units() const override { return size_; }
  size_t cost() const override { return size_ * n_ * sizeof(T); }

  void run(size_t begin, size_t end, uint8_t*) const override {
    for (size_t unit = begin; unit < end; ++unit) {
      const T* x =
          reinterpret_cast<const T*>(*input_) + unit / inner_ * n_ * inner_ + unit % inner_;
      size_t best = 0;
      for (size_t i = 1; i < n_; ++i) {
        const T challenger = x[i * inner_];
        const T holder = x[best * inner_];
        const bool wins = extreme_ == Extreme::kMax ? challenger > holder : challenger < holder;
        if (wins || (last_ && challenger == holder)) best = i;
      }
      reinterpret_cast<int64_t*>(*output_)[unit] = static_cast<int64_t>(best);
    }
  }

 private:
  Extreme extreme_;
  bool last_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  size_t n_;
  size_t inner_;
  size_t size_;
};

}  // namespace

std::unique_ptr<Op> make_arg_extreme(const ArgExtremeParams& params, const PlanTarget& target,
                                     std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  if (!check_tensor(input, error) || !check_tensor(output, error) ||
      !check_disjoint(input, output, error)) {
    return nullptr;
  }
  if (params.extreme > Extreme::kMin || output.dtype != DType::kInt64 ||
      params.axis >= input.shape.rank ||
      element_count(input.shape, 0, params.axis) *
              element_count(input.shape, params.axis + 1, input.shape.rank) !=
          element_count(output.shape)) {
    fail(error, {"input ", describe(input), " does not give places in output ", describe(output),
                 " along this axis"});
    return nullptr;
  }
  if (input.dtype == DType::kFloat32) return std::make_unique<ArgExtreme<float>>(params);
  if (input.dtype == DType::kCode) {
    // Stored codes are in the order of the numbers that they stand for.
    if (target.storage == Storage::kU8) return std::make_unique<ArgExtreme<uint8_t>>(params);
    return std::make_unique<ArgExtreme<int8_t>>(params);
  }
  fail(error, {"input ", describe(input), " must hold float32 or codes"});
  return nullptr;
}

}  // namespace edgekit
