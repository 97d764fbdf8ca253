#include "kernels/depthwise/depthwise.h"

#include <cstring>

#include "kernels/kernel_list.h"

namespace edgekit {

#define EDGEKIT_DEPTHWISE(function, isa, storage, tile_rows, cr, kr, have) \
  void function(const DepthwiseArgs& args);
#include "kernels/depthwise/kernels.inc"
#undef EDGEKIT_DEPTHWISE

namespace {

const DepthwiseKernel kKernels[] = {
#define EDGEKIT_DEPTHWISE(function, isa, storage, tile_rows, cr, kr, have) \
  {#function, Isa::isa, Storage::storage, tile_rows, cr, kr, EDGEKIT_RUN(have, function)},
#include "kernels/depthwise/kernels.inc"
#undef EDGEKIT_DEPTHWISE
};

/// Channels of a block that stay in order.
constexpr size_t kLane = 16;

constexpr size_t kCount = sizeof(kKernels) / sizeof(kKernels[0]);

size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

/// Returns the channel of a block that stands at `position` of its packed weights.
size_t channel_at(size_t position, size_t cr) {
  const size_t lanes = cr < kLane ? 1 : cr / kLane;
  return position / 4 % lanes * kLane + position / (4 * lanes) * 4 + position % 4;
}

}  // namespace

const DepthwiseKernel* depthwise_kernels(size_t* count) {
  *count = kCount;
  return kKernels;
}

const DepthwiseKernel* find_depthwise_kernel(const char* name) {
  for (const DepthwiseKernel& kernel : kKernels) {
    if (std::strcmp(kernel.name, name) == 0) return &kernel;
  }
  return nullptr;
}

// Today each instruction set has one kernel for all shapes.
const DepthwiseKernel& select_depthwise(Isa isa, Storage storage, size_t /*channels*/,
                                        size_t /*kernel_h*/, size_t /*kernel_w*/,
                                        size_t /*stride_w*/, size_t /*dilation_w*/) {
  for (;;) {
    const DepthwiseKernel* chosen = nullptr;
    for (const DepthwiseKernel& kernel : kKernels) {
      if (kernel.isa == isa && kernel.storage == storage) chosen = &kernel;
    }
    if (chosen != nullptr) return *chosen;
    isa = isa_info(isa).parent;
  }
}

size_t packed_depthwise_size(const DepthwiseKernel& kernel, size_t channels, size_t kernel_h,
                             size_t kernel_w) {
  const size_t taps = kernel_w * ceil_div(kernel_h, kernel.kr) * kernel.kr;
  return ceil_div(channels, kernel.cr) * kernel.cr * taps;
}

void pack_depthwise(const DepthwiseKernel& kernel, const int8_t* w, size_t channels,
                    size_t kernel_h, size_t kernel_w, int8_t* packed) {
  for (size_t c0 = 0; c0 < channels; c0 += kernel.cr) {
    for (size_t s = 0; s < kernel_w; ++s) {
      for (size_t r0 = 0; r0 < kernel_h; r0 += kernel.kr) {
        for (size_t position = 0; position < kernel.cr; ++position) {
          const size_t c = c0 + channel_at(position, kernel.cr);
          for (size_t r = r0; r < r0 + kernel.kr; ++r) {
            const bool inside = c < channels && r < kernel_h;
            *packed++ = inside ? w[(c * kernel_h + r) * kernel_w + s] : int8_t{0};
          }
        }
      }
    }
  }
}

}  // namespace edgekit
