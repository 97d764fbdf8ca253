#pragma once

#include <memory>
#include <string>

#include "kernels/float_vector/float_vector.h"
#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// Reduces the dimensions [begin, end) to one element. Over the last dimensions, sums go in 16
/// lanes (FloatReduceArgs); otherwise in ascending order. The output must not overlap the input and
/// has its elements in the order that is left.
struct FloatReduceParams {
  FloatReduction reduction = FloatReduction::kSum;
  TensorView input;
  TensorView output;
  uint32_t begin = 0;
  uint32_t end = 0;
};

std::unique_ptr<Op> make_float_reduce(const FloatReduceParams& params, const PlanTarget& target,
                                      std::string* error);

}  // namespace edgekit
