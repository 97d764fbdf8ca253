#include "kernels/float_vector/loops.h"
#include "kernels/float_vector/rows_x86_avx512vnni.h"

namespace edgekit {

void float_unary_x86_avx512vnni(const FloatUnaryArgs& args) { run_unary(args); }
void float_binary_x86_avx512vnni(const FloatBinaryArgs& args) { run_binary(args); }
void float_window_x86_avx512vnni(const FloatWindowArgs& args) { run_window(args); }
void float_reduce_x86_avx512vnni(const FloatReduceArgs& args) { run_reduce(args); }
void float_softmax_x86_avx512vnni(const FloatSoftmaxArgs& args) { softmax_rows(args); }
void float_norm_x86_avx512vnni(const FloatNormArgs& args) { norm_rows(args); }
void float_magnitude_x86_avx512vnni(const FloatMagnitudeArgs& args) { run_magnitude(args); }

}  // namespace edgekit
