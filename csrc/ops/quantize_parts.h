#pragma once

#include <memory>
#include <string>

#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// float32 to codes in 2 or 3 parts (QuantizePartsArgs), side by side in one dimension, which the
/// output has so many times as long as the input; the others are equal. Parts share the output's
/// scale and zero point, which leaves room for all of them: -112 <= zero_point <= 111.
struct QuantizePartsParams {
  TensorView input;
  TensorView output;
  int32_t lo = -128;
  int32_t hi = 127;
};

std::unique_ptr<Op> make_quantize_parts(const QuantizePartsParams& params, const PlanTarget& target,
                                        std::string* error);

}  // namespace edgekit
