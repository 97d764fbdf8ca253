#pragma once

#include <cmath>

#include "kernels/pool/pool.h"
#include "kernels/storage.h"

namespace edgekit {

// The pools as their equations say, an output at a time.

/// Calls visit(stored value) for each element that output (j, c) covers; returns how many there
/// are.
template <class Visit>
size_t reference_cover(const PoolWindow& w, Storage storage, size_t j, size_t c, Visit visit) {
  size_t covered = 0;
  for (size_t r = 0; r < w.row_count; ++r) {
    for (size_t s = 0; s < w.kernel_w; ++s) {
      const int64_t column = static_cast<int64_t>(j * w.stride_w + s * w.dilation_w) -
                             static_cast<int64_t>(w.pad_left);
      if (column < 0 || column >= static_cast<int64_t>(w.in_width)) continue;
      visit(stored_value(storage, w.rows[r][static_cast<size_t>(column) * w.channels + c]));
      ++covered;
    }
  }
  return covered;
}

inline uint8_t reference_mean(int64_t sum, float multiplier, int32_t zero_point, float lo,
                              float hi) {
  float whole = std::nearbyintf(static_cast<float>(static_cast<int32_t>(sum)) * multiplier);
  if (whole < lo) whole = lo;
  if (whole > hi) whole = hi;
  return static_cast<uint8_t>(zero_point + static_cast<int32_t>(whole));
}

inline void reference_run(const MaxPoolArgs& args, Storage storage) {
  const PoolWindow& w = args.window;
  for (size_t j = 0; j < w.out_width; ++j) {
    for (size_t c = 0; c < w.channels; ++c) {
      int32_t best = args.lo;
      reference_cover(w, storage, j, c, [&](int32_t x) { best = x > best ? x : best; });
      w.y[j * w.channels + c] = static_cast<uint8_t>(best > args.hi ? args.hi : best);
    }
  }
}

inline void reference_run(const AveragePoolArgs& args, Storage storage) {
  const PoolWindow& w = args.window;
  for (size_t j = 0; j < w.out_width; ++j) {
    for (size_t c = 0; c < w.channels; ++c) {
      int64_t sum = 0;
      const size_t covered =
          reference_cover(w, storage, j, c, [&](int32_t x) { sum += x - args.x_zero_point; });
      const float multiplier = args.multiplier[args.fixed_count != 0 ? args.fixed_count : covered];
      w.y[j * w.channels + c] = reference_mean(sum, multiplier, args.zero_point, args.lo, args.hi);
    }
  }
}

inline void reference_run(const GlobalMeanArgs& args, Storage storage) {
  for (size_t c = 0; c < args.channels; ++c) {
    int64_t sum = 0;
    for (size_t p = 0; p < args.pixels; ++p) {
      sum += stored_value(storage, args.x[p * args.x_stride + c]) - args.x_zero_point;
    }
    args.y[c] = reference_mean(sum, args.multiplier, args.zero_point, args.lo, args.hi);
  }
}

}  // namespace edgekit
