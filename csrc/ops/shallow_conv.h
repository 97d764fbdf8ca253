#pragma once

#include <memory>
#include <string>

#include "kernels/shallow/shallow.h"
#include "ops/conv.h"

namespace edgekit {

/// Returns the op of a convolution whose `kernel` is in kernels/shallow/kernels.inc. Shapes, window
/// and memory have been checked.
std::unique_ptr<Op> make_shallow_conv(const ConvParams& params, const ShallowKernel& kernel,
                                      const PlanTarget& target, std::string* error);

}  // namespace edgekit
