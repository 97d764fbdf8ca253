#include "runtime/fork_cost.h"

#include <algorithm>

namespace edgekit {
namespace {

constexpr size_t kNanoseconds = 2000;

/// What one core does in a nanosecond, at least, where an instruction set has kernels of its own.
struct Rate {
  size_t multiplies;
  /// Of a depthwise convolution, which loads as much as it multiplies.
  size_t depthwise_multiplies;
  size_t bytes;
};

Rate rate(Isa isa) {
  switch (isa) {
    case Isa::kGeneric:
      return {1, 1, 1};
    case Isa::kX86Avx2:
      return {64, 8, 4};
    case Isa::kX86AvxVnni:
      return {128, 16, 4};
    case Isa::kX86Avx512Vnni:
      return {256, 32, 8};
    case Isa::kArmNeon:
      return {8, 4, 2};
    case Isa::kArmNeonDot:
      return {32, 8, 2};
    default:
      return rate(isa_info(isa).parent);
  }
}

}  // namespace

size_t fork_cost(plan::OpParams kind, Isa isa) {
  switch (kind) {
    case plan::OpParams_Conv:
    case plan::OpParams_FullyConnected:
      return kNanoseconds * rate(isa).multiplies;
    case plan::OpParams_FloatConv:
    case plan::OpParams_FloatFullyConnected:
    case plan::OpParams_FloatMatMul:
      // A quarter of the lanes.
      return kNanoseconds * std::max<size_t>(rate(isa).multiplies / 4, 1);
    case plan::OpParams_FloatDepthwiseConv:
      return kNanoseconds * std::max<size_t>(rate(isa).depthwise_multiplies / 2, 1);
    case plan::OpParams_DepthwiseConv:
      return kNanoseconds * rate(isa).depthwise_multiplies;
    default:
      return kNanoseconds * rate(isa).bytes;
  }
}

}  // namespace edgekit
