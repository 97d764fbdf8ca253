#pragma once

#include <memory>
#include <string>

#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// Over the last dimensions, as many as make up the elements of scale and bias; see FloatNormArgs.
/// The output may be the input's very memory.
struct FloatLayerNormParams {
  TensorView input;
  TensorView output;
  Blob scale;
  Blob bias;
  float epsilon = 0;
};

std::unique_ptr<Op> make_float_layer_norm(const FloatLayerNormParams& params,
                                          const PlanTarget& target, std::string* error);

}  // namespace edgekit
