#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// The values are those of Extreme in runtime/plan.fbs.
enum class Extreme : uint8_t { kMax, kMin };

/// Where the largest or smallest element along `axis` of float32 or codes lies, as int64: the first
/// place, or the last one. A NaN is never found unless it is the first element.
struct ArgExtremeParams {
  Extreme extreme = Extreme::kMax;
  bool last = false;
  TensorView input;
  /// As many elements as the input without `axis`.
  TensorView output;
  uint32_t axis = 0;
};

std::unique_ptr<Op> make_arg_extreme(const ArgExtremeParams& params, const PlanTarget& target,
                                     std::string* error);

}  // namespace edgekit
