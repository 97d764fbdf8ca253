#include "kernels/float_vector/float_vector.h"

#include "kernels/kernel_list.h"

namespace edgekit {

#define EDGEKIT_FLOAT_VECTOR(token, isa, have)              \
  void float_unary_##token(const FloatUnaryArgs& args);     \
  void float_binary_##token(const FloatBinaryArgs& args);   \
  void float_window_##token(const FloatWindowArgs& args);   \
  void float_reduce_##token(const FloatReduceArgs& args);   \
  void float_softmax_##token(const FloatSoftmaxArgs& args); \
  void float_norm_##token(const FloatNormArgs& args);       \
  void float_magnitude_##token(const FloatMagnitudeArgs& args);
#include "kernels/float_vector/kernels.inc"
#undef EDGEKIT_FLOAT_VECTOR

namespace {

const FloatVectorKernels kKernels[] = {
#define EDGEKIT_FLOAT_VECTOR(token, isa, have) \
  {#token,                                     \
   Isa::isa,                                   \
   (have) != 0,                                \
   EDGEKIT_RUN(have, float_unary_##token),     \
   EDGEKIT_RUN(have, float_binary_##token),    \
   EDGEKIT_RUN(have, float_window_##token),    \
   EDGEKIT_RUN(have, float_reduce_##token),    \
   EDGEKIT_RUN(have, float_softmax_##token),   \
   EDGEKIT_RUN(have, float_norm_##token),      \
   EDGEKIT_RUN(have, float_magnitude_##token)},
#include "kernels/float_vector/kernels.inc"
#undef EDGEKIT_FLOAT_VECTOR
};

constexpr size_t kCount = sizeof(kKernels) / sizeof(kKernels[0]);

}  // namespace

const FloatVectorKernels* float_vector_kernels(size_t* count) {
  *count = kCount;
  return kKernels;
}

const FloatVectorKernels& select_float_vector(Isa isa) {
  size_t found = 0;
  for (size_t i = 0; i < kCount; ++i) {
    if (kKernels[i].built && isa_contains(isa, kKernels[i].isa)) found = i;
  }
  return kKernels[found];
}

}  // namespace edgekit
