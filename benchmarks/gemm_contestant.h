#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "contest.h"
#include "fused_constants.h"
#include "kernels/gemm/gemm.h"
#include "kernels/sparse_gemm/sparse_gemm.h"
#include "sampler.h"

namespace edgekit::benchmark {

/// What GemmArgs promises behind each row.
constexpr size_t kReadBehind = 64;

/// A product of m rows, k of each, and n columns.
struct GemmShape {
  size_t m;
  size_t k;
  size_t n;
};

/// Which blocks of a matrix hold anything but zeros: a share of them, chosen at random; of each
/// panel as many where `even`, otherwise from none to twice as many.
struct BlockPattern {
  double density = 1;
  bool even = true;
};

/// Zeroes all other blocks of w `[n][k]`.
inline void clear_blocks(const GemmKernel& kernel, const GemmShape& shape,
                         const BlockPattern& pattern, std::minstd_rand* random, int8_t* w) {
  const size_t steps = (shape.k + kernel.kr - 1) / kernel.kr;
  const size_t panels = (shape.n + kernel.nr - 1) / kernel.nr;
  std::vector<size_t> order(steps);
  for (size_t panel = 0; panel < panels; ++panel) {
    double share = pattern.density;
    if (!pattern.even && panels > 1) {
      const double most = std::min(1.0, 2 * share);
      const double least = 2 * share - most;
      share = least + (most - least) * static_cast<double>(panel) / static_cast<double>(panels - 1);
    }
    const auto kept = static_cast<size_t>(std::lround(share * static_cast<double>(steps)));
    std::iota(order.begin(), order.end(), size_t{0});
    std::shuffle(order.begin(), order.end(), *random);
    for (size_t i = kept; i < steps; ++i) {
      const size_t begin = order[i] * kernel.kr;
      const size_t end = std::min<size_t>(begin + kernel.kr, shape.k);
      for (size_t c = panel * kernel.nr; c < std::min(shape.n, (panel + 1) * kernel.nr); ++c) {
        std::fill(w + c * shape.k + begin, w + c * shape.k + end, int8_t{0});
      }
    }
  }
}

/// One kernel with memory of its own for one shape.
class GemmContestant {
 public:
  GemmContestant(const GemmKernel& kernel, const GemmShape& shape, const BlockPattern& pattern = {})
      : kernel_(kernel), shape_(shape), pattern_(pattern) {
    std::minstd_rand random(1);
    // Small enough for neighbours along k to fit in 16 bits, which some kernels require.
    const int most = kernel.bits == 4 ? 7 : 64;
    std::uniform_int_distribution<int> weight(-most, most);
    std::vector<int8_t> w(shape.n * shape.k);
    for (int8_t& value : w) value = static_cast<int8_t>(weight(random));
    if (kernel.sparse) clear_blocks(kernel, shape, pattern, &random, w.data());
    pack(w.data());
    a_.resize(shape.m * shape.k + kReadBehind + kAlignment);
    for (uint8_t& value : a_) value = static_cast<uint8_t>(random());
    y_.resize(shape.m * shape.n + kAlignment);
    const size_t padded = (shape.n + kernel.nr - 1) / kernel.nr * kernel.nr;
    bias_.resize(padded);
    scale_.assign(padded, 1e-3F);
    args_.m = shape.m;
    args_.n = shape.n;
    args_.k = shape.k;
    args_.taps = 1;
    args_.a = aligned(a_);
    args_.a_stride = shape.k;
    args_.bias = bias_.data();
    args_.requantize.scale = scale_.data();
    args_.requantize.lo = -128;
    args_.requantize.hi = 127;
    args_.requantize.zero_point = storage_offset(kernel.storage);
    fused_.give(kernel, w.data(), scale_.data(), &args_);
    args_.output = Output::kCodes;
    args_.y = aligned(y_);
    args_.y_stride = shape.n;
    sampler_ = std::make_unique<Sampler>([this] { kernel_.run(args_); });
  }

  const GemmKernel& kernel() const { return kernel_; }
  const BlockPattern& pattern() const { return pattern_; }
  double cost() const { return sampler_->cost(); }
  void sample() {
    sampler_->sample([this] { kernel_.run(args_); });
  }

  double seconds() const { return sampler_->median(); }

  double gops() const {
    const double operations = 2.0 * static_cast<double>(shape_.m * shape_.n * shape_.k);
    return operations / seconds() * 1e-9;
  }

 private:
  void pack(const int8_t* w) {
    if (!kernel_.sparse) {
      packed_.resize(packed_gemm_size(kernel_, shape_.n, shape_.k, 1) + kAlignment);
      auto* packed = reinterpret_cast<int8_t*>(aligned(packed_));
      pack_gemm(kernel_, w, shape_.n, shape_.k, 1, packed);
      args_.w = packed;
      return;
    }
    const std::vector<uint8_t> bytes = pack_sparse_gemm(kernel_, w, shape_.n, shape_.k, 1);
    packed_.resize(bytes.size() + kAlignment);
    std::copy(bytes.begin(), bytes.end(), aligned(packed_));
    const SparseWeights weights = sparse_weights(kernel_, aligned(packed_), shape_.n, 1);
    args_.w = weights.w;
    args_.block_starts = weights.starts;
    args_.block_steps = weights.steps;
  }

  const GemmKernel& kernel_;
  GemmShape shape_;
  BlockPattern pattern_;
  GemmArgs args_{};
  std::vector<uint8_t> packed_;
  std::vector<uint8_t> a_;
  std::vector<uint8_t> y_;
  std::vector<int32_t> bias_;
  std::vector<float> scale_;
  FusedConstants fused_;
  std::unique_ptr<Sampler> sampler_;
};

using GemmContestants = std::vector<std::unique_ptr<GemmContestant>>;

/// Returns the fastest dense kernel for the same weights of 8 bits on the instruction set of a
/// sparse one; null where none took part. Where a sparse kernel is exact for all weights, so has
/// the dense one to be.
inline const GemmContestant* find_fastest_dense(const GemmContestants& contestants,
                                                const GemmKernel& sparse) {
  const GemmContestant* fastest = nullptr;
  for (const auto& contestant : contestants) {
    const GemmKernel& kernel = contestant->kernel();
    const bool exact =
        kernel.exactness == Exactness::kAlways || sparse.exactness == kernel.exactness;
    if (kernel.sparse || kernel.isa != sparse.isa || kernel.bits != 8 || !exact) continue;
    if (fastest == nullptr || contestant->seconds() < fastest->seconds()) {
      fastest = contestant.get();
    }
  }
  return fastest;
}

}  // namespace edgekit::benchmark
