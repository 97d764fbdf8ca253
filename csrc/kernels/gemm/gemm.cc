#include "kernels/gemm/gemm.h"

#include <cstring>

#include "kernels/kernel_list.h"

namespace edgekit {

#define EDGEKIT_GEMM(function, isa, storage, mr, nr, kr, panel, exactness, have) \
  void function(const GemmArgs& args);
#include "kernels/gemm/kernels.inc"
#undef EDGEKIT_GEMM

namespace {

const GemmKernel kKernels[] = {
#define EDGEKIT_GEMM(function, isa, storage, mr, nr, kr, panel, exactness, have) \
  {#function,                                                                    \
   Isa::isa,                                                                     \
   Storage::storage,                                                             \
   mr,                                                                           \
   nr,                                                                           \
   kr,                                                                           \
   panel,                                                                        \
   Exactness::exactness,                                                         \
   EDGEKIT_RUN(have, function)},
#include "kernels/gemm/kernels.inc"
#undef EDGEKIT_GEMM
};

constexpr size_t kCount = sizeof(kKernels) / sizeof(kKernels[0]);

size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

/// Returns the last kernel of exactly this instruction set that fits, or null.
const GemmKernel* select_own(Isa isa, Storage storage, bool pair_sums_fit) {
  const GemmKernel* chosen = nullptr;
  for (const GemmKernel& kernel : kKernels) {
    const bool exact = kernel.exactness == Exactness::kAlways || pair_sums_fit;
    if (kernel.isa == isa && kernel.storage == storage && exact) chosen = &kernel;
  }
  return chosen;
}

}  // namespace

const GemmKernel* gemm_kernels(size_t* count) {
  *count = kCount;
  return kKernels;
}

const GemmKernel* find_gemm_kernel(const char* name) {
  for (const GemmKernel& kernel : kKernels) {
    if (std::strcmp(kernel.name, name) == 0) return &kernel;
  }
  return nullptr;
}

const GemmKernel& select_gemm(Isa isa, Storage storage, size_t m, size_t n, size_t k, size_t taps,
                              bool pair_sums_fit) {
  // No instruction set has yet two kernels that a shape decides between.
  (void)m, (void)n, (void)k, (void)taps;
  for (;;) {
    const GemmKernel* own = select_own(isa, storage, pair_sums_fit);
    if (own != nullptr) return *own;
    isa = isa_info(isa).parent;
  }
}

size_t packed_gemm_size(const GemmKernel& kernel, size_t n, size_t k, size_t taps) {
  return ceil_div(n, kernel.panel) * kernel.panel * taps * ceil_div(k, kernel.kr) * kernel.kr;
}

void pack_gemm(const GemmKernel& kernel, const int8_t* w, size_t n, size_t k, size_t taps,
               int8_t* packed) {
  for (size_t n0 = 0; n0 < n; n0 += kernel.panel) {
    for (size_t t = 0; t < taps; ++t) {
      for (size_t k0 = 0; k0 < k; k0 += kernel.kr) {
        for (size_t c = n0; c < n0 + kernel.panel; ++c) {
          for (size_t i = k0; i < k0 + kernel.kr; ++i) {
            *packed++ = c < n && i < k ? w[(c * taps + t) * k + i] : int8_t{0};
          }
        }
      }
    }
  }
}

std::vector<int64_t> sum_magnitudes(const GemmKernel& kernel, const int8_t* packed, size_t n,
                                    size_t k, size_t taps) {
  std::vector<int64_t> sums(ceil_div(n, kernel.panel) * kernel.panel);
  const size_t steps = taps * ceil_div(k, kernel.kr);
  for (size_t n0 = 0; n0 < n; n0 += kernel.panel) {
    for (size_t step = 0; step < steps; ++step) {
      for (size_t c = n0; c < n0 + kernel.panel; ++c, packed += kernel.kr) {
        int32_t sum = 0;
        for (size_t i = 0; i < kernel.kr; ++i) sum += packed[i] < 0 ? -packed[i] : packed[i];
        sums[c] += sum;
      }
    }
  }
  sums.resize(n);
  return sums;
}

bool pair_sums_fit_16(const int8_t* w, size_t n, size_t k, size_t taps) {
  for (size_t row = 0; row < n * taps; ++row) {
    for (size_t i = 0; i < k; i += 2) {
      int32_t positive = 0;
      int32_t negative = 0;
      for (size_t j = i; j < i + 2 && j < k; ++j) {
        const int8_t value = w[row * k + j];
        (value > 0 ? positive : negative) += value;
      }
      if (255 * positive > INT16_MAX || 255 * negative < INT16_MIN) return false;
    }
  }
  return true;
}

}  // namespace edgekit
