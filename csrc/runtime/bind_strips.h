#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ops/op.h"
#include "ops/strips.h"
#include "ops/tensor.h"
#include "plan_generated.h"

namespace edgekit {

/// Makes the op of a chain that runs in strips, with ops for each of `threads` threads; the other
/// arguments are those of bind_op(). Returns null and sets `error` when parameters don't fit.
std::unique_ptr<Strips> bind_strips(const plan::Plan& graph, const plan::Strips& strips,
                                    const std::vector<TensorView>& tensors,
                                    const uint8_t* constants, const PlanTarget& target,
                                    size_t threads, std::string* error);

}  // namespace edgekit
