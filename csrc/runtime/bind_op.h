#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ops/op.h"
#include "ops/tensor.h"
#include "plan_generated.h"

namespace edgekit {

/// Makes the op that `op` describes, over `tensors` (all of the plan's, by index) and the plan's
/// constants. Returns null and sets `error`, which names the op, when its parameters don't fit.
std::unique_ptr<Op> bind_op(const plan::Op& op, const std::vector<TensorView>& tensors,
                            const uint8_t* constants, const PlanTarget& target, std::string* error);

}  // namespace edgekit
