#include "kernels/float_depthwise/float_depthwise.h"

#include <cstring>

#include "kernels/kernel_list.h"

namespace edgekit {

#define EDGEKIT_FLOAT_DEPTHWISE(function, isa, cr, have) \
  void function(const FloatDepthwiseArgs& args);
#include "kernels/float_depthwise/kernels.inc"
#undef EDGEKIT_FLOAT_DEPTHWISE

namespace {

const FloatDepthwiseKernel kKernels[] = {
#define EDGEKIT_FLOAT_DEPTHWISE(function, isa, cr, have) \
  {#function, Isa::isa, cr, EDGEKIT_RUN(have, function)},
#include "kernels/float_depthwise/kernels.inc"
#undef EDGEKIT_FLOAT_DEPTHWISE
};

constexpr size_t kCount = sizeof(kKernels) / sizeof(kKernels[0]);

}  // namespace

const FloatDepthwiseKernel* float_depthwise_kernels(size_t* count) {
  *count = kCount;
  return kKernels;
}

const FloatDepthwiseKernel* find_float_depthwise_kernel(const char* name) {
  for (const FloatDepthwiseKernel& kernel : kKernels) {
    if (std::strcmp(kernel.name, name) == 0) return &kernel;
  }
  return nullptr;
}

const FloatDepthwiseKernel& select_float_depthwise(Isa isa) {
  for (;;) {
    const FloatDepthwiseKernel* chosen = nullptr;
    for (const FloatDepthwiseKernel& kernel : kKernels) {
      if (kernel.isa == isa) chosen = &kernel;
    }
    if (chosen != nullptr) return *chosen;
    isa = isa_info(isa).parent;
  }
}

size_t packed_float_depthwise_size(const FloatDepthwiseKernel& kernel, size_t channels,
                                   size_t kernel_h, size_t kernel_w) {
  return (channels + kernel.cr - 1) / kernel.cr * kernel.cr * kernel_h * kernel_w;
}

void pack_float_depthwise(const FloatDepthwiseKernel& kernel, const float* w, size_t channels,
                          size_t kernel_h, size_t kernel_w, float* packed) {
  const size_t taps = kernel_h * kernel_w;
  for (size_t first = 0; first < channels; first += kernel.cr) {
    for (size_t tap = 0; tap < taps; ++tap) {
      for (size_t c = first; c < first + kernel.cr; ++c) {
        *packed++ = c < channels ? w[c * taps + tap] : 0.0F;
      }
    }
  }
}

}  // namespace edgekit
