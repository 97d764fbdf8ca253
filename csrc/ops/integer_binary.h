#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// The values are those of IntegerOperator in runtime/plan.fbs.
enum class IntegerOperator : uint8_t { kAdd, kSub, kMul, kDiv, kMod, kMax, kMin, kAnd, kOr, kXor };
constexpr IntegerOperator kLastIntegerOperator = IntegerOperator::kXor;

/// Elementwise on int32, int64 or uint8; of bool only And, Or and Xor, as logic. Sums, differences
/// and products wrap around. A quotient is cut off towards 0, and 0 where the divisor is 0; Mod
/// has the divisor's sign, and is 0 where that is 0. An operand has the output's shape or a single
/// element.
struct IntegerBinaryParams {
  IntegerOperator op = IntegerOperator::kAdd;
  TensorView a;
  TensorView b;
  TensorView output;
};

std::unique_ptr<Op> make_integer_binary(const IntegerBinaryParams& params, const PlanTarget& target,
                                        std::string* error);

}  // namespace edgekit
