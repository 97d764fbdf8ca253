#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "guarded_buffer.h"
#include "kernels/fused_requantize.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/reference.h"
#include "kernels/sparse_gemm/sparse_gemm.h"
#include "random.h"
#include "random_codes.h"
#include "test.h"

namespace edgekit::test {

/// What GemmArgs promises behind each row.
constexpr size_t kReadable = 64;
constexpr uint8_t kUntouched = 0xA5;

/// Turns the second of two neighbours along k around where both have one sign, after which
/// Exactness::kPairSumsFit16 holds.
inline void make_pair_sums_fit(int8_t* w, size_t rows, size_t k) {
  for (size_t row = 0; row < rows; ++row) {
    for (size_t i = 1; i < k; i += 2) {
      int8_t& second = w[row * k + i];
      if ((w[row * k + i - 1] < 0) == (second < 0)) second = static_cast<int8_t>(~second);
    }
  }
}

/// How many problems were requantized by FusedRequantize.
inline size_t& fused_problems() {
  static size_t count = 0;
  return count;
}

/// One random problem: memory that ends where the contract says that it may.
struct GemmProblem {
  size_t m, n, k, taps;
  bool row_pointers;
  Output output;
  bool residual;
};

inline size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

inline std::string describe(const GemmKernel& kernel, const GemmProblem& problem) {
  return std::string(kernel.name) + " m " + std::to_string(problem.m) + " n " +
         std::to_string(problem.n) + " k " + std::to_string(problem.k) + " taps " +
         std::to_string(problem.taps) + (problem.row_pointers ? " rows" : " stride") + " output " +
         std::to_string(static_cast<int>(problem.output)) +
         (problem.residual ? " with residual" : "");
}

/// Makes whole blocks of w `[n][taps][k]` zeros, and lists of blocks empty or full.
inline void clear_blocks(Random& random, const GemmKernel& kernel, size_t n, size_t k, size_t taps,
                         int8_t* w) {
  const uint64_t share = random.pick<uint64_t>({0, 1, 5, 9, 10});
  for (size_t n0 = 0; n0 < n; n0 += kernel.nr) {
    const uint64_t own = random.one_in(4) ? random.pick<uint64_t>({0, 10}) : share;
    for (size_t t = 0; t < taps; ++t) {
      for (size_t k0 = 0; k0 < k; k0 += kernel.kr) {
        if (random.size(0, 9) >= own) continue;
        for (size_t c = n0; c < std::min(n, n0 + kernel.nr); ++c) {
          int8_t* const row = w + (c * taps + t) * k;
          std::fill(row + k0, row + std::min<size_t>(k, k0 + kernel.kr), int8_t{0});
        }
      }
    }
  }
}

/// Weights packed for a dense or a sparse kernel, in memory that ends behind them.
class PackedGemm {
 public:
  PackedGemm(Random& random, const GemmKernel& kernel, const int8_t* w, size_t n, size_t k,
             size_t taps)
      : sparse_(kernel.sparse ? pack_sparse_gemm(kernel, w, n, k, taps) : std::vector<uint8_t>()),
        bytes_(kernel.sparse ? sparse_.size()
                             : packed_gemm_size(kernel, n, k, taps) + random.size(0, 1),
               kernel.sparse ? alignof(uint32_t) : 1) {
    if (kernel.sparse) {
      std::copy(sparse_.begin(), sparse_.end(), bytes_.data());
      parts_ = sparse_weights(kernel, bytes_.data(), n, taps);
    } else {
      parts_.w = reinterpret_cast<const int8_t*>(bytes_.data());
      pack_gemm(kernel, w, n, k, taps, reinterpret_cast<int8_t*>(bytes_.data()));
    }
  }

  void give(GemmArgs* args) const {
    args->w = parts_.w;
    args->block_starts = parts_.starts;
    args->block_steps = parts_.steps;
  }

 private:
  std::vector<uint8_t> sparse_;
  GuardedBuffer<uint8_t> bytes_;
  SparseWeights parts_ = {};
};

/// Constants for one multiplication and addition in place of a requantization.
class Fused {
 public:
  /// Moves scales by a few last places, up to where the proof succeeds; weights are [n][depth].
  Fused(const GemmKernel& kernel, const GemmArgs& args, const int8_t* w, size_t depth, float* scale)
      : start_(round_up(args.n, kernel.nr)), slope_(start_.size()), shift_(start_.size()) {
    for (size_t c = 0; c < start_.size(); ++c) {
      FusedChannel channel = unused_channel();
      if (c < args.n) {
        int64_t sum = 0;
        for (size_t i = 0; i < depth; ++i) sum += std::abs(w[c * depth + i]);
        sum *= kernel.storage == Storage::kU8 ? 255 : 128;
        const AccumulatorRange range = {args.bias[c] - sum, args.bias[c] + sum};
        const auto prove = [&] {
          return fuse_requantize(scale[c], args.bias[c], args.requantize, range, &channel);
        };
        constexpr int kTrials = 16;
        for (int i = 0; i < kTrials && !prove(); ++i) scale[c] = std::nextafter(scale[c], 1.0f);
        proved_ = proved_ && prove();
      }
      start_.data()[c] = channel.start;
      slope_.data()[c] = channel.slope;
      shift_.data()[c] = channel.shift;
    }
  }

  /// Gives them to a call, where all channels have them, and returns whether they do.
  bool give(GemmArgs* args) const {
    if (proved_) args->requantize.fused = {start_.data(), slope_.data(), shift_.data()};
    return proved_;
  }

 private:
  bool proved_ = true;
  GuardedBuffer<int32_t> start_;
  GuardedBuffer<float> slope_;
  GuardedBuffer<float> shift_;
};

/// Runs the kernel and the reference on one problem; the bytes of y between the rows count too.
inline void compare(Random& random, const GemmKernel& kernel, const GemmProblem& problem) {
  const auto [m, n, k, taps, row_pointers, output, residual] = problem;
  set_case(describe(kernel, problem));

  std::vector<int8_t> w(n * taps * k);
  fill_weights(random, w.data(), w.size());
  if (kernel.bits == 4) {
    for (int8_t& weight : w) weight = static_cast<int8_t>(weight >> 4);
  }
  if (kernel.exactness == Exactness::kPairSumsFit16) {
    make_pair_sums_fit(w.data(), n * taps, k);
    EDGEKIT_CHECK(pair_sums_fit_16(w.data(), n, k, taps), describe(kernel, problem));
  }
  if (kernel.sparse) clear_blocks(random, kernel, n, k, taps, w.data());
  const PackedGemm packed(random, kernel, w.data(), n, k, taps);

  const size_t padded = round_up(n, kernel.nr);
  GuardedBuffer<int32_t> bias(padded);
  GuardedBuffer<float> scale(padded);
  fill_bias(random, bias.data(), padded);
  // Of weights of 4 bits, 16 times a sum stays in int32.
  if (kernel.bits == 4) {
    for (size_t c = 0; c < padded; ++c) bias.data()[c] /= 16;
  }
  fill_scale(random, scale.data(), padded);

  // Rows lie a_stride apart and may overlap; row pointers take any of them in any order.
  const size_t a_stride = k + random.size(0, 5);
  const size_t tap_step = random.size(0, 4) * a_stride;
  const size_t a_rows = m + random.size(0, 3) + (row_pointers ? 0 : (taps - 1) * 4);
  GuardedBuffer<uint8_t> a((a_rows - 1) * a_stride + k + kReadable);
  fill_bytes(random, a.data(), a.size());
  GuardedBuffer<const uint8_t*> rows(m * taps);
  for (const uint8_t*& row : rows) row = a.data() + random.size(0, a_rows - 1) * a_stride;

  const size_t width = n * (output == Output::kCodes ? 1 : 4);
  const size_t y_stride = width + (random.one_in(3) ? 0 : random.size(0, 9));
  const size_t y_size = (m - 1) * y_stride + width;
  GuardedBuffer<uint8_t> y(y_size);
  std::vector<uint8_t> expected(y_size, kUntouched);
  std::memset(y.data(), kUntouched, y_size);

  // Floats are added to without any being read behind them.
  const bool adds_floats = output == Output::kFloat32Sum;
  const size_t residual_stride = (adds_floats ? 4 * n : n) + random.size(0, 9);
  GuardedBuffer<uint8_t> other((m - 1) * residual_stride + (adds_floats ? 4 * n : n + kReadable));
  fill_bytes(random, other.data(), other.size());
  for (size_t i = 0; adds_floats && i < m * n; ++i) {
    const float before = random.log_uniform(1e-6, 1e6);
    std::memcpy(other.data() + i / n * residual_stride + i % n * 4, &before, 4);
  }

  GemmArgs args{};
  args.m = m;
  args.n = n;
  args.k = k;
  args.taps = taps;
  args.a = row_pointers ? nullptr : a.data();
  args.a_stride = row_pointers ? 0 : a_stride;
  args.tap_step = row_pointers ? 0 : tap_step;
  args.rows = row_pointers ? rows.data() : nullptr;
  packed.give(&args);
  const std::vector<uint8_t> wide =
      kernel.sparse ? std::vector<uint8_t>() : find_wide_steps(kernel, args.w, n, k, taps);
  args.wide_steps = wide.empty() || random.one_in(4) ? nullptr : wide.data();
  args.bias = bias.data();
  args.requantize = pick_requantize(random, kernel.storage);
  args.requantize.scale = scale.data();
  args.requantize.products_fit_16 =
      products_fit_16(bias.data(), scale.data(), n,
                      static_cast<int64_t>(taps * k) * largest_product(kernel.storage));
  args.requantize.residual = residual || adds_floats ? other.data() : nullptr;
  args.requantize.residual_stride = residual || adds_floats ? residual_stride : 0;
  args.output = output;
  args.y = y.data();
  args.y_stride = y_stride;
  if (fuses(kernel) && output == Output::kCodes && !residual && random.one_in(2)) {
    // Sums that the proof takes; the others are refused.
    for (size_t c = 0; c < padded; ++c) {
      bias.data()[c] %= 100000;
      scale.data()[c] = random.log_uniform(1e-3, 2e-2);
    }
    const Fused fused(kernel, args, w.data(), taps * k, scale.data());
    if (fused.give(&args)) ++fused_problems();
    kernel.run(args);
  } else {
    kernel.run(args);
  }

  args.y = expected.data();
  reference_gemm(args, kernel.storage, w.data());
  const auto difference = std::mismatch(expected.begin(), expected.end(), y.begin());
  EDGEKIT_CHECK(difference.first == expected.end(),
                describe(kernel, problem) + ": byte " +
                    std::to_string(difference.first - expected.begin()) + " is " +
                    std::to_string(*difference.second) + ", not " +
                    std::to_string(*difference.first));
  count_case(kernel.isa);
}

/// Fails the running test where a kernel that takes FusedRequantize met few problems with it, of
/// those that compare() ran since `before` of them.
inline void check_fused(const GemmKernel& kernel, size_t before, size_t least) {
  EDGEKIT_CHECK(!fuses(kernel) || fused_problems() - before >= least,
                std::string(kernel.name) + ": " + std::to_string(fused_problems() - before));
}

/// Draws a size around a multiple of the kernel's unit, or anything small.
inline size_t pick_size(Random& random, size_t unit) {
  const size_t around = unit * random.size(1, 3) + random.size(0, 2);
  return random.one_in(2) ? std::max<size_t>(around, 2) - 1 : random.size(1, 2 * unit + 3);
}

/// Draws a problem around the kernel's tile.
inline GemmProblem pick_problem(Random& random, const GemmKernel& kernel) {
  GemmProblem problem{};
  problem.m = pick_size(random, kernel.mr);
  problem.n = pick_size(random, random.one_in(3) ? kernel.nr : kernel.panel);
  if (random.one_in(6)) {
    // Few columns and many rows, which a kernel may lay out another way.
    problem.m = random.size(14, 70);
    problem.n = random.size(1, 5);
  }
  problem.row_pointers = random.one_in(2);
  problem.taps = 1;
  if (problem.row_pointers || kernel.strided_taps) problem.taps = random.pick<size_t>({1, 2, 9});
  problem.k = random.one_in(20) ? 0 : pick_size(random, random.one_in(4) ? 64 : kernel.kr);
  problem.output =
      random.one_in(2)
          ? Output::kCodes
          : random.pick<Output>({Output::kInt32, Output::kFloat32, Output::kFloat32Sum});
  problem.residual = problem.output == Output::kCodes && random.one_in(2);
  return problem;
}

}  // namespace edgekit::test
