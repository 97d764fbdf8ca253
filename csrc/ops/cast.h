#pragma once

#include <memory>
#include <string>

#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// Numbers of one type as another: float32, int32, int64, uint8 and bool. To float32 rounds to
/// nearest even; from float32 to whole numbers cuts off the fraction, brings what is too large to
/// the nearest end and NaN to 0; between whole numbers the low bits stay; to bool is `x != 0`.
struct CastParams {
  TensorView input;
  TensorView output;
};

std::unique_ptr<Op> make_cast(const CastParams& params, const PlanTarget& target,
                              std::string* error);

}  // namespace edgekit
