#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// The values are those of Comparison in runtime/plan.fbs.
enum class Comparison : uint8_t { kEqual, kLess, kLessOrEqual };
constexpr Comparison kLastComparison = Comparison::kLessOrEqual;

/// Elementwise `a op b` of numbers of one type as bool; false where one of them is NaN. An operand
/// has the output's shape or a single element.
struct CompareParams {
  Comparison comparison = Comparison::kEqual;
  TensorView a;
  TensorView b;
  TensorView output;
};

std::unique_ptr<Op> make_compare(const CompareParams& params, const PlanTarget& target,
                                 std::string* error);

/// Elementwise `condition ? a : b` of any type; a, b and the output have the same one. An operand
/// has the output's shape or a single element.
struct WhereParams {
  TensorView condition;
  TensorView a;
  TensorView b;
  TensorView output;
};

std::unique_ptr<Op> make_where(const WhereParams& params, const PlanTarget& target,
                               std::string* error);

}  // namespace edgekit
