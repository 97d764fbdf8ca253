#include "kernels/sparse_gemm/sparse_gemm.h"

#include <cstring>

#include "kernels/kernel_list.h"

namespace edgekit {

#define EDGEKIT_SPARSE_GEMM(function, isa, storage, mr, nr, kr, unit, exactness, have) \
  void function(const GemmArgs& args);
#include "kernels/sparse_gemm/kernels.inc"
#undef EDGEKIT_SPARSE_GEMM

namespace {

const GemmKernel kKernels[] = {
#define EDGEKIT_SPARSE_GEMM(function, isa, storage, mr, nr, kr, unit, exactness, have) \
  {#function,                                                                          \
   Isa::isa,                                                                           \
   Storage::storage,                                                                   \
   mr,                                                                                 \
   nr,                                                                                 \
   kr,                                                                                 \
   nr,                                                                                 \
   8,                                                                                  \
   Exactness::exactness,                                                               \
   EDGEKIT_RUN(have, function),                                                        \
   false,                                                                              \
   true,                                                                               \
   unit},
#include "kernels/sparse_gemm/kernels.inc"
#undef EDGEKIT_SPARSE_GEMM
};

constexpr size_t kCount = sizeof(kKernels) / sizeof(kKernels[0]);
constexpr size_t kMostSteps = size_t{UINT16_MAX} + 1;
constexpr size_t kLine = 64;

size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

size_t count_lists(const GemmKernel& kernel, size_t n, size_t taps) {
  return ceil_div(n, kernel.nr) * taps;
}

uint64_t block_size(const GemmKernel& kernel) { return uint64_t{kernel.nr} * kernel.kr; }

/// Returns where w begins behind the numbers of so many lists and blocks.
uint64_t weights_offset(uint64_t lists, uint64_t blocks) {
  const uint64_t numbers = (lists + 1) * sizeof(uint32_t) + blocks * sizeof(uint16_t);
  return (numbers + kLine - 1) / kLine * kLine;
}

/// Returns where in a block the weight of its column c at its i of k lies.
size_t place_in_block(const GemmKernel& kernel, size_t c, size_t i) {
  return (i / kernel.unit * kernel.nr + c) * kernel.unit + i % kernel.unit;
}

/// A matrix of weights `[n][taps][k]` and a kernel's blocks of it.
struct Blocks {
  const GemmKernel& kernel;
  const int8_t* w;
  size_t n;
  size_t k;
  size_t taps;

  /// Returns the weight of column c at i of k, 0 behind the last.
  int8_t at(size_t c, size_t tap, size_t i) const {
    return c < n && i < k ? w[(c * taps + tap) * k + i] : int8_t{0};
  }

  /// Returns whether a block holds anything but zeros.
  bool is_full(size_t panel, size_t tap, size_t step) const {
    for (size_t c = panel * kernel.nr; c < (panel + 1) * kernel.nr; ++c) {
      for (size_t i = step * kernel.kr; i < (step + 1) * kernel.kr; ++i) {
        if (at(c, tap, i) != 0) return true;
      }
    }
    return false;
  }

  /// Calls `body(panel, tap, step)` for each block that is full, and `next()` behind each list.
  template <typename Body, typename Next>
  void for_each_full(const Body& body, const Next& next) const {
    for (size_t panel = 0; panel < ceil_div(n, kernel.nr); ++panel) {
      for (size_t tap = 0; tap < taps; ++tap) {
        for (size_t step = 0; step < ceil_div(k, kernel.kr); ++step) {
          if (is_full(panel, tap, step)) body(panel, tap, step);
        }
        next();
      }
    }
  }
};

}  // namespace

const GemmKernel* sparse_gemm_kernels(size_t* count) {
  *count = kCount;
  return kKernels;
}

const GemmKernel* find_sparse_gemm_kernel(const char* name) {
  for (const GemmKernel& kernel : kKernels) {
    if (std::strcmp(kernel.name, name) == 0) return &kernel;
  }
  return nullptr;
}

const GemmKernel& select_sparse_gemm(Isa isa, Storage storage, bool pair_sums_fit_16) {
  for (;;) {
    const GemmKernel* own = nullptr;
    for (const GemmKernel& kernel : kKernels) {
      const bool exact = kernel.exactness == Exactness::kAlways || pair_sums_fit_16;
      if (kernel.isa == isa && kernel.storage == storage && exact) own = &kernel;
    }
    if (own != nullptr) return *own;
    isa = isa_info(isa).parent;
  }
}

bool sparse_steps_fit(const GemmKernel& kernel, size_t k) {
  return ceil_div(k, kernel.kr) <= kMostSteps;
}

size_t count_blocks(const GemmKernel& kernel, const int8_t* w, size_t n, size_t k, size_t taps) {
  size_t count = 0;
  Blocks{kernel, w, n, k, taps}.for_each_full([&](size_t, size_t, size_t) { ++count; }, [] {});
  return count;
}

std::vector<uint8_t> pack_sparse_gemm(const GemmKernel& kernel, const int8_t* w, size_t n, size_t k,
                                      size_t taps) {
  const Blocks matrix{kernel, w, n, k, taps};
  std::vector<uint32_t> starts(1);
  std::vector<uint16_t> steps;
  std::vector<int8_t> full;
  matrix.for_each_full(
      [&](size_t panel, size_t tap, size_t step) {
        steps.push_back(static_cast<uint16_t>(step));
        const size_t begin = full.size();
        full.resize(begin + static_cast<size_t>(block_size(kernel)));
        for (size_t c = 0; c < kernel.nr; ++c) {
          for (size_t i = 0; i < kernel.kr; ++i) {
            full[begin + place_in_block(kernel, c, i)] =
                matrix.at(panel * kernel.nr + c, tap, step * kernel.kr + i);
          }
        }
      },
      [&] { starts.push_back(static_cast<uint32_t>(steps.size())); });
  const size_t offset = static_cast<size_t>(weights_offset(starts.size() - 1, steps.size()));
  std::vector<uint8_t> packed(offset + full.size());
  const size_t starts_size = starts.size() * sizeof(starts[0]);
  std::memcpy(packed.data(), starts.data(), starts_size);
  if (!steps.empty()) {
    std::memcpy(packed.data() + starts_size, steps.data(), steps.size() * sizeof(steps[0]));
    std::memcpy(packed.data() + offset, full.data(), full.size());
  }
  return packed;
}

SparseWeights sparse_weights(const GemmKernel& kernel, const uint8_t* packed, size_t n,
                             size_t taps) {
  const size_t lists = count_lists(kernel, n, taps);
  SparseWeights weights;
  weights.starts = reinterpret_cast<const uint32_t*>(packed);
  weights.steps = reinterpret_cast<const uint16_t*>(weights.starts + lists + 1);
  const uint64_t offset = weights_offset(lists, weights.starts[lists]);
  weights.w = reinterpret_cast<const int8_t*>(packed + offset);
  return weights;
}

const char* check_sparse_gemm(const GemmKernel& kernel, const uint8_t* packed, size_t size,
                              size_t n, size_t k, size_t taps) {
  if (packed == nullptr || reinterpret_cast<uintptr_t>(packed) % alignof(uint32_t) != 0) {
    return "do not lie at a multiple of 4";
  }
  const size_t lists = count_lists(kernel, n, taps);
  if (size / sizeof(uint32_t) <= lists) return "end within the counts of their blocks";
  const auto* starts = reinterpret_cast<const uint32_t*>(packed);
  if (starts[0] != 0) return "have blocks before the first";
  for (size_t i = 0; i < lists; ++i) {
    if (starts[i + 1] < starts[i]) return "have a list with fewer than no blocks";
  }
  const uint64_t blocks = starts[lists];
  if (weights_offset(lists, blocks) + blocks * block_size(kernel) != size) {
    return "hold other than as many bytes as their blocks take";
  }
  const size_t all_steps = ceil_div(k, kernel.kr);
  const auto* steps = reinterpret_cast<const uint16_t*>(starts + lists + 1);
  for (size_t i = 0; i < lists; ++i) {
    for (size_t b = starts[i]; b < starts[i + 1]; ++b) {
      if (steps[b] >= all_steps) return "have a block behind the end of k";
      if (b != starts[i] && steps[b] <= steps[b - 1]) return "have blocks out of order";
    }
  }
  return nullptr;
}

std::vector<int64_t> sum_magnitudes(const GemmKernel& kernel, const SparseWeights& weights,
                                    size_t n, size_t taps) {
  std::vector<int64_t> sums(n);
  for (size_t c = 0; c < n; ++c) {
    const uint32_t* starts = weights.starts + c / kernel.nr * taps;
    for (size_t b = starts[0]; b < starts[taps]; ++b) {
      const int8_t* w = weights.w + b * kernel.nr * kernel.kr;
      for (size_t i = 0; i < kernel.kr; ++i) {
        const int8_t weight = w[place_in_block(kernel, c % kernel.nr, i)];
        sums[c] += weight < 0 ? -weight : weight;
      }
    }
  }
  return sums;
}

}  // namespace edgekit
