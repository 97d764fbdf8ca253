#pragma once

#include <memory>
#include <string>

#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// Softmax over the last dimension, on codes; the rule stands in docs/arithmetic.md. Both tensors
/// have the same shape; the output may be the input's very memory.
struct SoftmaxParams {
  TensorView input;
  TensorView output;
  /// uint32 [256]: exp(-scale * d) in fixed point for d = max - q.
  Blob table;
};

std::unique_ptr<Op> make_softmax(const SoftmaxParams& params, const PlanTarget& target,
                                 std::string* error);

}  // namespace edgekit
