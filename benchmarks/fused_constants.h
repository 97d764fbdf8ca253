#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "kernels/fused_requantize.h"
#include "kernels/gemm/gemm.h"

namespace edgekit::benchmark {

/// What one multiplication and addition requantizes with, where a plan would hold it.
class FusedConstants {
 public:
  /// Gives a call its constants, for weights `[n][k]`, where its kernel takes them and all channels
  /// have them. Moves `scale`, one a channel, by a few last places as `edgekit.deploy` does.
  void give(const GemmKernel& kernel, const int8_t* w, float* scale, GemmArgs* args) {
    if (!fuses(kernel) || most_products(kernel, w, *args) > most_fused_depth(kernel)) return;
    const size_t padded = (args->n + kernel.nr - 1) / kernel.nr * kernel.nr;
    start_.resize(padded);
    slope_.resize(padded);
    shift_.resize(padded);
    for (size_t c = 0; c < padded; ++c) {
      FusedChannel channel = unused_channel();
      if (c < args->n && !prove(kernel, w + c * args->k, *args, c, &scale[c], &channel)) return;
      start_[c] = channel.start;
      slope_[c] = channel.slope;
      shift_[c] = channel.shift;
    }
    args->requantize.fused = {start_.data(), slope_.data(), shift_.data()};
  }

 private:
  static constexpr int kTrials = 64;

  /// Returns the products of an output at most that the kernel computes.
  static size_t most_products(const GemmKernel& kernel, const int8_t* w, const GemmArgs& args) {
    if (!kernel.sparse) return args.k;
    size_t most = 0;
    for (size_t c = 0; c < args.n; ++c) {
      const int8_t* row = w + c * args.k;
      const auto zeros = static_cast<size_t>(std::count(row, row + args.k, int8_t{0}));
      most = std::max(most, args.k - zeros);
    }
    return most;
  }

  static bool prove(const GemmKernel& kernel, const int8_t* row, const GemmArgs& args, size_t c,
                    float* scale, FusedChannel* channel) {
    int64_t most = 0;
    for (size_t i = 0; i < args.k; ++i) most += std::abs(row[i]);
    most *= kernel.storage == Storage::kU8 ? 255 : 128;
    const AccumulatorRange range = {args.bias[c] - most, args.bias[c] + most};
    for (int i = 0; i < kTrials; ++i) {
      if (fuse_requantize(*scale, args.bias[c], args.requantize, range, channel)) return true;
      *scale = std::nextafter(*scale, 1.0F);
    }
    return false;
  }

  std::vector<int32_t> start_;
  std::vector<float> slope_;
  std::vector<float> shift_;
};

}  // namespace edgekit::benchmark
