#include "kernels/float_vector/loops.h"

namespace edgekit {

void float_unary_generic(const FloatUnaryArgs& args) { run_unary(args); }
void float_binary_generic(const FloatBinaryArgs& args) { run_binary(args); }
void float_window_generic(const FloatWindowArgs& args) { run_window(args); }
void float_reduce_generic(const FloatReduceArgs& args) { run_reduce(args); }
void float_softmax_generic(const FloatSoftmaxArgs& args) { run_softmax(args); }
void float_norm_generic(const FloatNormArgs& args) { run_norm(args); }
void float_magnitude_generic(const FloatMagnitudeArgs& args) { run_magnitude(args); }

}  // namespace edgekit
