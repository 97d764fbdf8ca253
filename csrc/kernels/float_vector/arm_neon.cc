#include "kernels/float_vector/loops.h"

namespace edgekit {

void float_unary_arm_neon(const FloatUnaryArgs& args) { run_unary(args); }
void float_binary_arm_neon(const FloatBinaryArgs& args) { run_binary(args); }
void float_window_arm_neon(const FloatWindowArgs& args) { run_window(args); }
void float_reduce_arm_neon(const FloatReduceArgs& args) { run_reduce(args); }
void float_softmax_arm_neon(const FloatSoftmaxArgs& args) { run_softmax(args); }
void float_norm_arm_neon(const FloatNormArgs& args) { run_norm(args); }
void float_magnitude_arm_neon(const FloatMagnitudeArgs& args) { run_magnitude(args); }

}  // namespace edgekit
