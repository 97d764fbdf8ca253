#include "kernels/float_gemm/float_gemm.h"

#include <cstring>

#include "kernels/kernel_list.h"

namespace edgekit {

#define EDGEKIT_FLOAT_GEMM(function, isa, mr, nr, panel, have) \
  void function(const FloatGemmArgs& args);
#include "kernels/float_gemm/kernels.inc"
#undef EDGEKIT_FLOAT_GEMM

namespace {

const FloatGemmKernel kKernels[] = {
#define EDGEKIT_FLOAT_GEMM(function, isa, mr, nr, panel, have) \
  {#function, Isa::isa, mr, nr, panel, EDGEKIT_RUN(have, function)},
#include "kernels/float_gemm/kernels.inc"
#undef EDGEKIT_FLOAT_GEMM
};

constexpr size_t kCount = sizeof(kKernels) / sizeof(kKernels[0]);

size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

}  // namespace

const FloatGemmKernel* float_gemm_kernels(size_t* count) {
  *count = kCount;
  return kKernels;
}

const FloatGemmKernel* find_float_gemm_kernel(const char* name) {
  for (const FloatGemmKernel& kernel : kKernels) {
    if (std::strcmp(kernel.name, name) == 0) return &kernel;
  }
  return nullptr;
}

const FloatGemmKernel& select_float_gemm(Isa isa) {
  for (;;) {
    const FloatGemmKernel* chosen = nullptr;
    for (const FloatGemmKernel& kernel : kKernels) {
      if (kernel.isa == isa) chosen = &kernel;
    }
    if (chosen != nullptr) return *chosen;
    isa = isa_info(isa).parent;
  }
}

size_t packed_float_gemm_size(const FloatGemmKernel& kernel, size_t n, size_t k, size_t taps) {
  return ceil_div(n, kernel.panel) * kernel.panel * taps * k;
}

void pack_float_gemm(const FloatGemmKernel& kernel, const float* w, size_t column_step,
                     size_t row_step, size_t n, size_t k, size_t taps, float* packed) {
  for (size_t first = 0; first < n; first += kernel.panel) {
    for (size_t row = 0; row < taps * k; ++row) {
      for (size_t c = first; c < first + kernel.panel; ++c) {
        *packed++ = c < n ? w[c * column_step + row * row_step] : 0.0F;
      }
    }
  }
}

}  // namespace edgekit
