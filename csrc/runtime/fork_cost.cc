#include "runtime/fork_cost.h"

#include <algorithm>

namespace edgekit {
namespace {

/// Work of one core that two do faster. ThreadPool::run() of two empty pieces takes 0.2 us on a Zen
/// 5 whose second core spins, and two pieces of 0.5 us take 0.5 us; what the cores fetch from each
/// other comes on top. On Arm it was not measured.
constexpr size_t kNanosecondsX86 = 1000;
constexpr size_t kNanosecondsArm = 2000;

/// What one core does in a nanosecond where an instruction set has kernels of its own; of the
/// layers of small networks, where it matters, as measured for AVX512-VNNI.
struct Rate {
  size_t nanoseconds;
  size_t multiplies;
  /// Of a depthwise convolution, which loads as much as it multiplies.
  size_t depthwise_multiplies;
  size_t bytes;
};

Rate rate(Isa isa) {
  switch (isa) {
    case Isa::kGeneric:
      return {kNanosecondsX86, 1, 1, 1};
    case Isa::kX86Avx2:
      return {kNanosecondsX86, 64, 16, 8};
    case Isa::kX86AvxVnni:
      return {kNanosecondsX86, 128, 32, 8};
    case Isa::kX86Avx512Vnni:
      return {kNanosecondsX86, 256, 64, 16};
    case Isa::kArmNeon:
      return {kNanosecondsArm, 8, 4, 2};
    case Isa::kArmNeonDot:
      return {kNanosecondsArm, 32, 8, 2};
    case Isa::kArmI8mm:
      return {kNanosecondsArm, 64, 8, 2};
    default:
      return rate(isa_info(isa).parent);
  }
}

}  // namespace

size_t fork_cost(plan::OpParams kind, Isa isa) {
  const Rate own = rate(isa);
  switch (kind) {
    case plan::OpParams_Conv:
    case plan::OpParams_FullyConnected:
    case plan::OpParams_DynamicFullyConnected:
    case plan::OpParams_MatMul:
    case plan::OpParams_GroupFullyConnected:
    case plan::OpParams_WideConv:
      return own.nanoseconds * own.multiplies;
    case plan::OpParams_FloatConv:
    case plan::OpParams_FloatConvTranspose:
    case plan::OpParams_FloatFullyConnected:
    case plan::OpParams_Int4FullyConnected:
    case plan::OpParams_FloatMatMul:
      // A quarter of the lanes.
      return own.nanoseconds * std::max<size_t>(own.multiplies / 4, 1);
    case plan::OpParams_FloatDepthwiseConv:
    case plan::OpParams_WideDepthwiseConv:
      return own.nanoseconds * std::max<size_t>(own.depthwise_multiplies / 2, 1);
    case plan::OpParams_DepthwiseConv:
      return own.nanoseconds * own.depthwise_multiplies;
    default:
      return own.nanoseconds * own.bytes;
  }
}

}  // namespace edgekit
