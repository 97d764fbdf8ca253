#include "kernels/shallow/shallow.h"

#include <cstring>

#include "kernels/kernel_list.h"

namespace edgekit {

#define EDGEKIT_SHALLOW(function, isa, storage, tile_rows, nr, kr, have) \
  void function(const ShallowArgs& args);
#include "kernels/shallow/kernels.inc"
#undef EDGEKIT_SHALLOW

namespace {

const ShallowKernel kKernels[] = {
#define EDGEKIT_SHALLOW(function, isa, storage, tile_rows, nr, kr, have) \
  {#function, Isa::isa, Storage::storage, tile_rows, nr, kr, EDGEKIT_RUN(have, function)},
#include "kernels/shallow/kernels.inc"
#undef EDGEKIT_SHALLOW
};

constexpr size_t kCount = sizeof(kKernels) / sizeof(kKernels[0]);

/// With more input channels, runs of a matrix kernel's k are long enough.
constexpr size_t kFewChannels = 4;

size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

}  // namespace

bool fits_shallow(size_t channels, size_t kernel_h, size_t kernel_w) {
  return kernel_h != 0 && kernel_h <= kMaxShallowHeight && kernel_w != 0 && channels != 0 &&
         kernel_w <= kMaxShallowRow && channels <= kMaxShallowRow / kernel_w;
}

const ShallowKernel* shallow_kernels(size_t* count) {
  *count = kCount;
  return kKernels;
}

const ShallowKernel* find_shallow_kernel(const char* name) {
  for (const ShallowKernel& kernel : kKernels) {
    if (std::strcmp(kernel.name, name) == 0) return &kernel;
  }
  return nullptr;
}

const ShallowKernel* select_shallow(Isa isa, Storage storage, size_t n, size_t channels,
                                    size_t kernel_h, size_t kernel_w) {
  (void)n;
  const bool pointwise = kernel_h == 1 && kernel_w == 1;
  if (pointwise || channels > kFewChannels || !fits_shallow(channels, kernel_h, kernel_w)) {
    return nullptr;
  }
  const bool plain = isa == Isa::kGeneric;
  for (;;) {
    const ShallowKernel* chosen = nullptr;
    for (const ShallowKernel& kernel : kKernels) {
      if (kernel.isa == isa && kernel.storage == storage) chosen = &kernel;
    }
    if (chosen != nullptr) return chosen;
    isa = isa_info(isa).parent;
    // The matrix kernels of any other instruction set beat plain C++.
    if (isa == Isa::kGeneric && !plain) return nullptr;
  }
}

size_t packed_shallow_size(const ShallowKernel& kernel, size_t n, size_t channels, size_t kernel_h,
                           size_t kernel_w) {
  const size_t row = ceil_div(kernel_w * channels, kernel.kr) * kernel.kr;
  return ceil_div(n, kernel.nr) * kernel.nr * kernel_h * row;
}

void pack_shallow(const ShallowKernel& kernel, const int8_t* w, size_t n, size_t channels,
                  size_t kernel_h, size_t kernel_w, int8_t* packed) {
  const size_t row = kernel_w * channels;
  for (size_t n0 = 0; n0 < n; n0 += kernel.nr) {
    for (size_t r = 0; r < kernel_h; ++r) {
      for (size_t b0 = 0; b0 < row; b0 += kernel.kr) {
        for (size_t o = n0; o < n0 + kernel.nr; ++o) {
          for (size_t b = b0; b < b0 + kernel.kr; ++b) {
            const bool inside = o < n && b < row;
            *packed++ = inside ? w[(o * kernel_h + r) * row + b] : int8_t{0};
          }
        }
      }
    }
  }
}

}  // namespace edgekit
