#include "kernels/gemm/gemm.h"

#include <cstring>

#include "kernels/kernel_list.h"
#include "kernels/nibbles.h"

namespace edgekit {

#define EDGEKIT_GEMM(function, isa, storage, mr, nr, kr, panel, bits, exactness, have) \
  void function(const GemmArgs& args);
#include "kernels/gemm/kernels.inc"
#undef EDGEKIT_GEMM

namespace {

const GemmKernel kKernels[] = {
#define EDGEKIT_GEMM(function, isa, storage, mr, nr, kr, panel, bits, exactness, have) \
  {#function,                                                                          \
   Isa::isa,                                                                           \
   Storage::storage,                                                                   \
   mr,                                                                                 \
   nr,                                                                                 \
   kr,                                                                                 \
   panel,                                                                              \
   bits,                                                                               \
   Exactness::exactness,                                                               \
   EDGEKIT_RUN(have, function),                                                        \
   Isa::isa == Isa::kX86Avx512Vnni},
#include "kernels/gemm/kernels.inc"
#undef EDGEKIT_GEMM
};

constexpr size_t kCount = sizeof(kKernels) / sizeof(kKernels[0]);

size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

int32_t magnitude(int32_t code) { return code < 0 ? -code : code; }

/// Returns how many steps along k lie in the same bytes.
size_t steps_together(const GemmKernel& kernel) { return 8u / kernel.bits; }

/// Returns the steps along k of a tap, with those that are zeros.
size_t count_steps(const GemmKernel& kernel, size_t k) {
  const size_t together = steps_together(kernel);
  return ceil_div(k, kernel.kr * together) * together;
}

/// Returns whether tiles of an AMX kernel pay.
///
/// A multiplication of tiles takes 64 of k by 16 rows in the time of any less; below these limits,
/// or with less than half of its k in use where every tap has chunks of its own, it loses to
/// vpdpbusd (measured on a CPU with AMX: even at k = 40, ahead from there on; behind at one row).
bool tiles_pay(size_t m, size_t k, size_t taps) {
  constexpr size_t kLeastRows = 16;
  constexpr size_t kLeastDepth = 40;
  constexpr size_t kLeastDepthOfTap = 32;
  return m >= kLeastRows && k >= (taps == 1 ? kLeastDepth : kLeastDepthOfTap);
}

/// Returns whether a block of 24 columns of w stays in the nearest cache and one of 64 does not,
/// over so many rows and columns that it counts (measured on Zen 5: 1 to 3 % at k from 768 to 1024,
/// as much lost at 512 and 2048).
bool only_half_panels_fit(size_t m, size_t n, size_t k) {
  constexpr size_t kManyRows = 96;
  constexpr size_t kManyColumns = 256;
  return m >= kManyRows && n >= kManyColumns && k > 704 && k <= 1280;
}

/// Returns whether panels of 8 columns by 8 of k pay over those of 16 by 4 of the same kernel.
///
/// They do where they take fewer steps, since fewer columns are padding, or as many with fewer
/// loads; and where that outweighs the adding of neighbouring lanes in the end (measured on Zen 5:
/// 24 columns are even at 4 * 12 of k, 40 and 72 between 96 and 240). For up to 4 columns the other
/// kernel has tiles of their own.
bool half_panels_pay(size_t m, size_t n, size_t k, size_t taps) {
  constexpr size_t kLeastRows = 8;
  constexpr size_t kFewestColumns = 5;
  constexpr size_t kFewColumns = 24;
  if (m < kLeastRows || n < kFewestColumns) return false;
  const size_t depth = k * taps;
  const size_t steps = ceil_div(n, 8) * ceil_div(k, 8);
  const size_t wide_steps = ceil_div(n, 16) * ceil_div(k, 4);
  if (steps > wide_steps) return false;
  if (taps == 1 && only_half_panels_fit(m, n, k)) return true;
  if (steps == wide_steps && n > 16) return false;
  return n <= 8 || depth >= (n <= kFewColumns ? 48 : 160);
}

/// Returns whether plain NEON's rows of pairs of k pay over its lanes along k.
///
/// They spare it to add up lanes, and load more: they take fewer instructions where sums have few
/// products and all of a panel's columns are in use, or most (counted at 48 of k: 0.91 times those
/// of lanes with 96 columns, 1.09 with 24).
bool pairs_pay(const GemmKernel& kernel, size_t n, size_t k, size_t taps) {
  constexpr size_t kMostPairedDepth = 40;
  constexpr size_t kMostDepthOfFullPanels = 48;
  const size_t half = kernel.panel / 2;
  const bool are_full = (n + half - 1) / half % 2 == 0;
  return n > half && k * taps <= (are_full ? kMostDepthOfFullPanels : kMostPairedDepth);
}

/// Returns whether pairs of rows pay over sdot.
///
/// smmla multiplies two rows at once, 8 of k each: of a single row half is lost, and rows have to
/// be interleaved first (instructions counted: 1.04 to 1.4 times those of sdot at one row, 1.1 at
/// k = 4, 0.95 to 1.1 at m * k = 200, 0.6 for large problems).
bool pairs_of_rows_pay(size_t m, size_t k, size_t taps) {
  constexpr size_t kLeastRows = 2;
  constexpr size_t kLeastDepthOfTap = 9;
  constexpr size_t kLeastWork = 256;
  return m >= kLeastRows && k >= kLeastDepthOfTap && m * k * taps >= kLeastWork;
}

/// Returns whether a kernel is faster than the rows before it, or the parent set's.
bool pays(const GemmKernel& kernel, size_t m, size_t n, size_t k, size_t taps) {
  if (kernel.isa == Isa::kX86Amx) return tiles_pay(m, k, taps);
  if (kernel.isa == Isa::kArmNeon && kernel.kr == 2) return pairs_pay(kernel, n, k, taps);
  if (kernel.isa == Isa::kArmI8mm) return pairs_of_rows_pay(m, k, taps);
  if (kernel.isa == Isa::kX86Avx512Vnni && kernel.panel == 8) return half_panels_pay(m, n, k, taps);
  return true;
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
                              bool pair_sums_fit, size_t bits) {
  for (;;) {
    const GemmKernel* own = nullptr;
    for (const GemmKernel& kernel : kKernels) {
      const bool exact = kernel.exactness == Exactness::kAlways || pair_sums_fit;
      const bool fits =
          kernel.isa == isa && kernel.storage == storage && kernel.bits == bits && exact;
      if (fits && pays(kernel, m, n, k, taps)) own = &kernel;
    }
    if (own != nullptr) return *own;
    isa = isa_info(isa).parent;
  }
}

size_t packed_gemm_size(const GemmKernel& kernel, size_t n, size_t k, size_t taps) {
  return ceil_div(n, kernel.panel) * kernel.panel * taps * count_steps(kernel, k) * kernel.kr *
         kernel.bits / 8;
}

void pack_gemm(const GemmKernel& kernel, const int8_t* w, size_t n, size_t k, size_t taps,
               int8_t* packed) {
  const size_t together = steps_together(kernel);
  for (size_t n0 = 0; n0 < n; n0 += kernel.panel) {
    for (size_t t = 0; t < taps; ++t) {
      for (size_t k0 = 0; k0 < k; k0 += kernel.kr * together) {
        for (size_t c = n0; c < n0 + kernel.panel; ++c) {
          const auto at = [&](size_t i) {
            return c < n && i < k ? w[(c * taps + t) * k + i] : int8_t{0};
          };
          for (size_t i = k0; i < k0 + kernel.kr; ++i) {
            *packed++ = together == 1 ? at(i) : join_nibbles(at(i), at(i + kernel.kr));
          }
        }
      }
    }
  }
}

std::vector<int64_t> sum_magnitudes(const GemmKernel& kernel, const int8_t* packed, size_t n,
                                    size_t k, size_t taps) {
  std::vector<int64_t> sums(ceil_div(n, kernel.panel) * kernel.panel);
  const size_t steps = taps * count_steps(kernel, k) / steps_together(kernel);
  for (size_t n0 = 0; n0 < n; n0 += kernel.panel) {
    for (size_t step = 0; step < steps; ++step) {
      for (size_t c = n0; c < n0 + kernel.panel; ++c, packed += kernel.kr) {
        int32_t sum = 0;
        for (size_t i = 0; i < kernel.kr; ++i) {
          if (kernel.bits == 4) {
            sum += magnitude(low_nibble(packed[i])) + magnitude(high_nibble(packed[i]));
          } else {
            sum += magnitude(packed[i]);
          }
        }
        sums[c] += sum;
      }
    }
  }
  sums.resize(n);
  return sums;
}

std::vector<uint8_t> find_wide_steps(const GemmKernel& kernel, const int8_t* packed, size_t n,
                                     size_t k, size_t taps) {
  constexpr size_t kLanes = 8;
  constexpr size_t kPair = 2;
  if (kernel.isa != Isa::kArmNeon || kernel.kr != 4 * kLanes) return {};
  std::vector<uint8_t> wide(ceil_div(n, kernel.panel) * taps * ceil_div(k, kernel.kr));
  for (uint8_t& bits : wide) {
    for (size_t c = 0; c < kernel.panel; ++c, packed += kernel.kr) {
      for (size_t lane = 0; lane < kLanes; ++lane) {
        int sum = 0;
        for (size_t i = lane; i < kernel.kr; i += kLanes) {
          sum += magnitude(packed[i]);
        }
        if (sum > UINT8_MAX) bits = static_cast<uint8_t>(bits | 1u << c / kPair);
      }
    }
  }
  return wide;
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
