#include "kernels/float_vector/loops.h"

namespace edgekit {

void float_unary_x86_avx2(const FloatUnaryArgs& args) { run_unary(args); }
void float_binary_x86_avx2(const FloatBinaryArgs& args) { run_binary(args); }
void float_window_x86_avx2(const FloatWindowArgs& args) { run_window(args); }
void float_reduce_x86_avx2(const FloatReduceArgs& args) { run_reduce(args); }
void float_softmax_x86_avx2(const FloatSoftmaxArgs& args) { run_softmax(args); }
void float_norm_x86_avx2(const FloatNormArgs& args) { run_norm(args); }
void float_magnitude_x86_avx2(const FloatMagnitudeArgs& args) { run_magnitude(args); }

}  // namespace edgekit
