#pragma once

#include <memory>
#include <string>

#include "ops/op.h"
#include "ops/pool.h"
#include "ops/tensor.h"
#include "ops/window.h"

namespace edgekit {

/// Max or average pool over height and width, NHWC, its taps in ascending order; the output must
/// not overlap the input. Padding is never the maximum and adds nothing to a sum.
struct FloatPoolParams {
  PoolKind kind = PoolKind::kMax;
  TensorView input;
  TensorView output;
  Window window;
  /// Average only: whether padding counts as elements.
  bool count_include_pad = false;
};

std::unique_ptr<Op> make_float_pool(const FloatPoolParams& params, const PlanTarget& target,
                                    std::string* error);

}  // namespace edgekit
