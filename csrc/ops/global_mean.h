#pragma once

#include <memory>
#include <string>

#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// Mean over height and width: input [n, h, w, c], output [n, 1, 1, c]; both hold codes and must
/// not overlap.
struct GlobalMeanParams {
  TensorView input;
  TensorView output;
  int32_t lo = -128;
  int32_t hi = 127;
};

std::unique_ptr<Op> make_global_mean(const GlobalMeanParams& params, const PlanTarget& target,
                                     std::string* error);

}  // namespace edgekit
