#include "ops/compare.h"

#include "ops/pointwise_operands.h"

namespace edgekit {
namespace {

template <typename T>
class Compare : public PlainElementwise<Compare<T>, uint8_t> {
 public:
  explicit Compare(const CompareParams& params)
      : PlainElementwise<Compare<T>, uint8_t>(params.output),
        comparison_(params.comparison),
        a_(params.a),
        b_(params.b) {}

  uint8_t element(size_t i) const {
    return comparison_ == Comparison::kEqual  ? a_[i] == b_[i]
           : comparison_ == Comparison::kLess ? a_[i] < b_[i]
                                              : a_[i] <= b_[i];
  }

 private:
  Comparison comparison_;
  Operand<T> a_;
  Operand<T> b_;
};

template <typename T>
class Where : public PlainElementwise<Where<T>, T> {
 public:
  explicit Where(const WhereParams& params)
      : PlainElementwise<Where<T>, T>(params.output),
        condition_(params.condition),
        a_(params.a),
        b_(params.b) {}

  T element(size_t i) const { return condition_[i] != 0 ? a_[i] : b_[i]; }

 private:
  Operand<uint8_t> condition_;
  Operand<T> a_;
  Operand<T> b_;
};

}  // namespace

std::unique_ptr<Op> make_compare(const CompareParams& params, const PlanTarget&,
                                 std::string* error) {
  if (!check_operands({&params.a, &params.b}, params.output, error)) return nullptr;
  if (params.comparison > kLastComparison || params.output.dtype != DType::kBool ||
      params.a.dtype != params.b.dtype) {
    fail(error, {"operands ", describe(params.a), " and ", describe(params.b),
                 " must be of one type, output ", describe(params.output), " bool"});
    return nullptr;
  }
  switch (params.a.dtype) {
    case DType::kFloat32:
      return std::make_unique<Compare<float>>(params);
    case DType::kInt32:
      return std::make_unique<Compare<int32_t>>(params);
    case DType::kInt64:
      return std::make_unique<Compare<int64_t>>(params);
    case DType::kUInt8:
    case DType::kBool:
      return std::make_unique<Compare<uint8_t>>(params);
    default:
      fail(error, {"operand ", describe(params.a), " holds codes, which are not compared"});
      return nullptr;
  }
}

std::unique_ptr<Op> make_where(const WhereParams& params, const PlanTarget&, std::string* error) {
  if (!check_operands({&params.condition, &params.a, &params.b}, params.output, error) ||
      !check_same_type(params.a, params.output, error) ||
      !check_same_type(params.b, params.output, error)) {
    return nullptr;
  }
  if (params.condition.dtype != DType::kBool) {
    fail(error, {"condition ", describe(params.condition), " must be bool"});
    return nullptr;
  }
  switch (dtype_size(params.output.dtype)) {
    case 1:
      return std::make_unique<Where<uint8_t>>(params);
    case 4:
      return std::make_unique<Where<uint32_t>>(params);
    default:
      return std::make_unique<Where<uint64_t>>(params);
  }
}

}  // namespace edgekit
