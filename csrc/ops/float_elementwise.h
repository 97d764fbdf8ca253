#pragma once

#include <memory>
#include <string>

#include "kernels/float_vector/float_vector.h"
#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// y = function(x) for each element; see FloatFunction. The output may be the input's very memory.
struct FloatUnaryParams {
  FloatFunction function = FloatFunction::kAbs;
  TensorView input;
  TensorView output;
  float alpha = 0;
  float beta = 0;
};

std::unique_ptr<Op> make_float_unary(const FloatUnaryParams& params, const PlanTarget& target,
                                     std::string* error);

/// y = clip(a op b, lo, hi) with ONNX broadcasting. The output may be the very memory of an input
/// of the same shape, and must not overlap one otherwise.
struct FloatBinaryParams {
  FloatOperator op = FloatOperator::kAdd;
  TensorView a;
  TensorView b;
  TensorView output;
  float lo = 0;
  float hi = 0;
};

std::unique_ptr<Op> make_float_binary(const FloatBinaryParams& params, const PlanTarget& target,
                                      std::string* error);

}  // namespace edgekit
