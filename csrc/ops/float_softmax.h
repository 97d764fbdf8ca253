#pragma once

#include <memory>
#include <string>

#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// Over the last dimension; see FloatSoftmaxArgs. The output may be the input's very memory.
struct FloatSoftmaxParams {
  TensorView input;
  TensorView output;
};

std::unique_ptr<Op> make_float_softmax(const FloatSoftmaxParams& params, const PlanTarget& target,
                                       std::string* error);

}  // namespace edgekit
