#pragma once

#include <cstdint>
#include <vector>

#include "plan_generated.h"

namespace edgekit {

/// The tensors that an op reads and the one that it writes, by their indices in the plan.
struct OpTensors {
  std::vector<uint32_t> reads;
  uint32_t write = 0;
};

/// Returns the tensors of `op`, whose parameters must be of a known kind. Indices are not checked.
OpTensors op_tensors(const plan::Op& op);

/// Returns the name of the op's row in kernels.inc, or "" for an op that has none.
const char* op_kernel(const plan::Op& op);

}  // namespace edgekit
