#pragma once

#include <memory>
#include <string>

#include "ops/op.h"
#include "ops/tensor.h"
#include "ops/window.h"

namespace edgekit {

/// The values are those of PoolKind in runtime/plan.fbs.
enum class PoolKind : uint8_t { kMax, kAverage };

/// Maximum or average over a window. input [n, h, w, c] and output [n, oh, ow, c] hold codes and
/// must not overlap. Every window must hold at least one element that is not padding.
struct PoolParams {
  PoolKind kind = PoolKind::kMax;
  TensorView input;
  TensorView output;
  Window window;
  /// Average only: whether padding counts as elements (of real value 0).
  bool count_include_pad = false;
  int32_t lo = -128;
  int32_t hi = 127;
};

std::unique_ptr<Op> make_pool(const PoolParams& params, const PlanTarget& target,
                              std::string* error);

}  // namespace edgekit
