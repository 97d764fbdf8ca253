#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

// Ops that move elements of any type and compute nothing. Input and output have the same type, and
// codes the same scale and zero point. Except for a reshape, which may leave its bytes where they
// are, they must not overlap.

/// The same elements in the same order under another shape.
struct ReshapeParams {
  TensorView input;
  TensorView output;
};

std::unique_ptr<Op> make_reshape(const ReshapeParams& params, const PlanTarget& target,
                                 std::string* error);

/// Output dimension i is input dimension permutation[i].
struct TransposeParams {
  TensorView input;
  TensorView output;
  std::vector<uint32_t> permutation;
};

std::unique_ptr<Op> make_transpose(const TransposeParams& params, const PlanTarget& target,
                                   std::string* error);

/// The input over and over: as numpy broadcasts it to the output's shape, which has no lower rank.
struct ExpandParams {
  TensorView input;
  TensorView output;
};

std::unique_ptr<Op> make_expand(const ExpandParams& params, const PlanTarget& target,
                                std::string* error);

/// Surrounds the input. pads: begin and end of each dimension in turn. `value` is the code to fill
/// with, `real` the float32; tensors of another type are filled with zeros.
struct PadParams {
  TensorView input;
  TensorView output;
  std::vector<uint32_t> pads;
  int32_t value = 0;
  float real = 0;
};

std::unique_ptr<Op> make_pad(const PadParams& params, const PlanTarget& target, std::string* error);

/// Output index i of a dimension is input index begin + i * step; step may be negative, never 0.
struct SliceParams {
  TensorView input;
  TensorView output;
  std::vector<int64_t> begin;
  std::vector<int64_t> step;
};

std::unique_ptr<Op> make_slice(const SliceParams& params, const PlanTarget& target,
                               std::string* error);

}  // namespace edgekit
