#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops/phases.h"
#include "ops/window.h"
#include "random_codes.h"

// What tests of transposed convolutions share.

namespace edgekit::test {

inline Window pick_transposed_window(Random& random) {
  Window w;
  w.kernel_h = static_cast<uint32_t>(random.integer(1, 4));
  w.kernel_w = static_cast<uint32_t>(random.integer(1, 4));
  w.stride_h = static_cast<uint32_t>(random.integer(1, 3));
  w.stride_w = static_cast<uint32_t>(random.integer(1, 3));
  if (random.one_in(3)) {
    w.kernel_w = w.stride_w = 2;
    return w;
  }
  w.dilation_h = random.one_in(4) ? 2 : 1;
  w.dilation_w = random.one_in(4) ? 3 : 1;
  w.pad_top = static_cast<uint32_t>(random.integer(0, 2));
  w.pad_left = static_cast<uint32_t>(random.integer(0, 2));
  return w;
}

/// Returns the output's shape for the input's: as large as the windows reach, less or more.
inline std::vector<int64_t> pick_transposed_output(Random& random, const Window& window,
                                                   const std::vector<int64_t>& in, size_t n) {
  const auto reach = [](int64_t size, int64_t stride, int64_t taps, int64_t dilation) {
    return (size - 1) * stride + (taps - 1) * dilation + 1;
  };
  const int64_t rows = reach(in[1], window.stride_h, window.kernel_h, window.dilation_h);
  const int64_t columns = reach(in[2], window.stride_w, window.kernel_w, window.dilation_w);
  const bool exact = random.one_in(2);
  const auto near = [&](int64_t size) {
    return exact ? size : std::max<int64_t>(1, size + random.integer(-3, 2));
  };
  return {in[0], near(rows), near(columns), static_cast<int64_t>(n)};
}

/// Returns the taps of one axis that reach outputs y with (y + pad) mod stride == phase.
inline std::vector<size_t> taps_of(size_t kernel, size_t stride, size_t dilation, size_t phase) {
  std::vector<size_t> taps;
  for (size_t tap = 0; tap < kernel; ++tap) {
    if (tap * dilation % stride == phase) taps.push_back(tap);
  }
  return taps;
}

/// The weights of one phase, `[n][taps][k]`.
template <typename T>
struct PhaseWeights {
  size_t n;
  size_t taps;
  std::vector<T> values;
};

/// Cuts weights `[n][kernel_h][kernel_w][k]` into phases in the order of plans; columns are joined
/// where `joined`.
template <typename T>
std::vector<PhaseWeights<T>> cut_phases(const Window& window, const std::vector<T>& weights,
                                        size_t n, size_t k, bool joined) {
  // Appends `[n][rows][columns][k]`, a tap of zeros on an axis that has none.
  const auto append = [&](const std::vector<size_t>& rows, const std::vector<size_t>& columns,
                          PhaseWeights<T>* phase) {
    phase->n += n;
    phase->taps = std::max<size_t>(rows.size(), 1) * std::max<size_t>(columns.size(), 1);
    for (size_t o = 0; o < n; ++o) {
      if (rows.empty() || columns.empty()) {
        phase->values.insert(phase->values.end(), phase->taps * k, T{0});
      }
      for (const size_t r : rows) {
        for (const size_t s : columns) {
          const T* tap = &weights[((o * window.kernel_h + r) * window.kernel_w + s) * k];
          phase->values.insert(phase->values.end(), tap, tap + k);
        }
      }
    }
  };
  std::vector<PhaseWeights<T>> phases;
  for (size_t a = 0; a < window.stride_h; ++a) {
    const auto rows = taps_of(window.kernel_h, window.stride_h, window.dilation_h, a);
    if (joined) phases.push_back({0, 0, {}});
    for (size_t b = 0; b < window.stride_w; ++b) {
      if (!joined) phases.push_back({0, 0, {}});
      append(rows, taps_of(window.kernel_w, window.stride_w, window.dilation_w, b), &phases.back());
    }
  }
  return phases;
}

}  // namespace edgekit::test
