#include "ops/integer_binary.h"

#include <limits>
#include <type_traits>

#include "ops/pointwise_operands.h"

namespace edgekit {
namespace {

/// Wide enough that unsigned products of T are not made in int, and of 64 bits for shifts.
template <typename T>
using Unsigned = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

template <typename T>
T divide(T a, T b) {
  if (b == 0) return 0;
  if constexpr (std::is_signed_v<T>) {
    if (b == -1) return static_cast<T>(Unsigned<T>{0} - static_cast<Unsigned<T>>(a));
  }
  return static_cast<T>(a / b);
}

template <typename T>
T modulo(T a, T b) {
  if (b == 0) return 0;
  if constexpr (std::is_signed_v<T>) {
    if (b == -1) return 0;
    const T rest = static_cast<T>(a % b);
    return rest != 0 && (rest < 0) != (b < 0) ? static_cast<T>(rest + b) : rest;
  }
  return static_cast<T>(a % b);
}

template <typename T>
T compute(IntegerOperator op, T a, T b) {
  const auto x = static_cast<Unsigned<T>>(a);
  const auto y = static_cast<Unsigned<T>>(b);
  switch (op) {
    case IntegerOperator::kAdd:
      return static_cast<T>(x + y);
    case IntegerOperator::kSub:
      return static_cast<T>(x - y);
    case IntegerOperator::kMul:
      return static_cast<T>(x * y);
    case IntegerOperator::kDiv:
      return divide(a, b);
    case IntegerOperator::kMod:
      return modulo(a, b);
    case IntegerOperator::kMax:
      return a < b ? b : a;
    case IntegerOperator::kMin:
      return b < a ? b : a;
    case IntegerOperator::kAnd:
      return static_cast<T>(x & y);
    case IntegerOperator::kOr:
      return static_cast<T>(x | y);
    case IntegerOperator::kXor:
      break;
  }
  return static_cast<T>(x ^ y);
}

/// A bool's byte may hold any value; what is written is 0 or 1.
struct Logic {
  uint8_t byte;
};

Logic compute(IntegerOperator op, Logic a, Logic b) {
  return {compute<uint8_t>(op, a.byte != 0, b.byte != 0)};
}

template <typename T>
class IntegerBinary : public PlainElementwise<IntegerBinary<T>, T> {
 public:
  explicit IntegerBinary(const IntegerBinaryParams& params)
      : PlainElementwise<IntegerBinary<T>, T>(params.output),
        op_(params.op),
        a_(params.a),
        b_(params.b) {}

  T element(size_t i) const { return compute(op_, a_[i], b_[i]); }

 private:
  IntegerOperator op_;
  Operand<T> a_;
  Operand<T> b_;
};

}  // namespace

std::unique_ptr<Op> make_integer_binary(const IntegerBinaryParams& params, const PlanTarget&,
                                        std::string* error) {
  if (!check_operands({&params.a, &params.b}, params.output, error)) return nullptr;
  const DType dtype = params.output.dtype;
  if (params.op > kLastIntegerOperator || params.a.dtype != dtype || params.b.dtype != dtype ||
      (dtype == DType::kBool && params.op < IntegerOperator::kAnd)) {
    fail(error, {"operands ", describe(params.a), " and ", describe(params.b), " and output ",
                 describe(params.output), " are not of a type that this op computes on"});
    return nullptr;
  }
  switch (dtype) {
    case DType::kInt32:
      return std::make_unique<IntegerBinary<int32_t>>(params);
    case DType::kInt64:
      return std::make_unique<IntegerBinary<int64_t>>(params);
    case DType::kUInt8:
      return std::make_unique<IntegerBinary<uint8_t>>(params);
    case DType::kBool:
      return std::make_unique<IntegerBinary<Logic>>(params);
    default:
      fail(error, {"output ", describe(params.output), " does not hold whole numbers"});
      return nullptr;
  }
}

}  // namespace edgekit
