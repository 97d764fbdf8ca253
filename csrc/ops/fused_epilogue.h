#pragma once

#include "ops/tensor.h"

namespace edgekit {

/// Constants of a layer that may be requantized by one multiplication and addition
/// (kernels/fused_requantize.h), as the plan's writer proved: int32, float32 and float32, one an
/// output channel, each group filled up to a multiple of the kernel's nr.
struct FusedEpilogue {
  bool present = false;
  Blob start;
  Blob slope;
  Blob shift;
};

}  // namespace edgekit
