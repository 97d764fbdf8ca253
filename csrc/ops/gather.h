#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// Rows of a tensor of any type, by their numbers: dimension `axis` of the input gives way to the
/// dimensions of `indices` (int32 or int64). An index below 0 counts from the end; what lies
/// outside after that is brought to the nearest end.
struct GatherParams {
  TensorView input;
  TensorView indices;
  TensorView output;
  uint32_t axis = 0;
};

std::unique_ptr<Op> make_gather(const GatherParams& params, const PlanTarget& target,
                                std::string* error);

}  // namespace edgekit
