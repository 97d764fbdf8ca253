#pragma once

#include <memory>
#include <string>

#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// float32 to codes. Where only the output is channels_last it is the NHWC form of an input in the
/// model's order (input [n, c, h, w], output [n, h, w, c]); otherwise the shapes are equal.
struct QuantizeParams {
  TensorView input;
  TensorView output;
};

std::unique_ptr<Op> make_quantize(const QuantizeParams& params, const PlanTarget& target,
                                  std::string* error);

/// Codes to float32, x = scale * (q - zero_point); the reverse of Quantize, so where only the input
/// is channels_last, the output [n, c, h, w] is the NCHW form of the input [n, h, w, c].
struct DequantizeParams {
  TensorView input;
  TensorView output;
};

std::unique_ptr<Op> make_dequantize(const DequantizeParams& params, const PlanTarget& target,
                                    std::string* error);

/// Codes to codes of another scale, m = float32(s_x / s_y). The output may be the input's very
/// memory.
struct RequantizeParams {
  TensorView input;
  TensorView output;
  int32_t lo = -128;
  int32_t hi = 127;
};

std::unique_ptr<Op> make_requantize(const RequantizeParams& params, const PlanTarget& target,
                                    std::string* error);

}  // namespace edgekit
