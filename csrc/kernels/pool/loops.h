#pragma once

#include <cstring>

#include "kernels/pool/taps.h"
#include "kernels/rounding.h"
#include "kernels/storage.h"

// Pools, pixel by pixel, with the channels, which lie side by side, in inner loops that compilers
// turn into vector code. Internal linkage throughout: each instruction set compiles its own copy.

namespace edgekit {
namespace {

/// The type whose order is that of the stored values, and one for sums of them.
template <Storage storage>
struct StoredType {
  using Type = int8_t;
  using Short = int16_t;
};

template <>
struct StoredType<Storage::kU8> {
  using Type = uint8_t;
  using Short = uint16_t;
};

/// Channels whose sums or maxima are kept at a time.
constexpr size_t kBlock = 64;

template <class Stored>
inline void raise(const uint8_t* __restrict x, size_t channels, Stored* __restrict best) {
  for (size_t c = 0; c < channels; ++c) {
    const Stored value = static_cast<Stored>(x[c]);
    best[c] = value > best[c] ? value : best[c];
  }
}

template <Storage storage>
void max_pool(const MaxPoolArgs& args) {
  using Stored = typename StoredType<storage>::Type;
  const PoolWindow& w = args.window;
  const Stored hi = static_cast<Stored>(args.hi);
  for (size_t j = 0; j < w.out_width; ++j) {
    const Taps taps = covered_taps(w, j);
    for (size_t first = 0; first < w.channels; first += kBlock) {
      const size_t size = w.channels - first < kBlock ? w.channels - first : kBlock;
      Stored best[kBlock];
      std::memset(best, args.lo, sizeof best);
      for (size_t r = 0; r < w.row_count; ++r) {
        for (size_t s = taps.begin; s < taps.end; ++s) {
          const uint8_t* x = tap_pixel(w, taps, r, s) + first;
          // A number of channels that the compiler knows keeps the maxima in registers.
          if (size == kBlock) {
            raise(x, kBlock, best);
          } else {
            raise(x, size, best);
          }
        }
      }
      uint8_t* __restrict y = w.y + j * w.channels + first;
      for (size_t c = 0; c < size; ++c) y[c] = static_cast<uint8_t>(best[c] > hi ? hi : best[c]);
    }
  }
}

/// Stored values that a sum of 16 bits holds, whatever they are.
constexpr size_t kShortSum = 256;

/// Sums of up to kBlock channels, in 16 bits as long as they fit, where vectors hold twice as many.
template <Storage storage>
class Sums {
 public:
  void add(const uint8_t* __restrict x, size_t channels) {
    if (count_ == kShortSum) widen();
    ++count_;
    if (channels == kBlock) return add_all(x);
    for (size_t c = 0; c < channels; ++c) add_one(x, c);
  }

  /// Returns the sums; no more can be added.
  const int32_t* finish() {
    widen();
    return wide_;
  }

 private:
  using Short = typename StoredType<storage>::Short;

  void add_all(const uint8_t* __restrict x) {
    for (size_t c = 0; c < kBlock; ++c) add_one(x, c);
  }

  void add_one(const uint8_t* __restrict x, size_t c) {
    short_[c] = static_cast<Short>(short_[c] + stored_value<storage>(x[c]));
  }

  void widen() {
    for (size_t c = 0; c < kBlock; ++c) {
      wide_[c] += short_[c];
      short_[c] = 0;
    }
    count_ = 0;
  }

  size_t count_ = 0;
  Short short_[kBlock] = {};
  int32_t wide_[kBlock] = {};
};

template <class Args>
void write_means(const Args& args, const int32_t* sums, size_t channels, size_t covered,
                 float multiplier, uint8_t* y) {
  const int32_t zero = static_cast<int32_t>(covered) * args.x_zero_point;
  for (size_t c = 0; c < channels; ++c) {
    const float v = clamp_float(static_cast<float>(sums[c] - zero) * multiplier, args.lo, args.hi);
    y[c] = static_cast<uint8_t>(args.zero_point + round_to_even(v));
  }
}

template <Storage storage>
void average_pool(const AveragePoolArgs& args) {
  const PoolWindow& w = args.window;
  for (size_t j = 0; j < w.out_width; ++j) {
    const Taps taps = covered_taps(w, j);
    const size_t covered = w.row_count * (taps.end - taps.begin);
    const float multiplier = args.multiplier[args.fixed_count != 0 ? args.fixed_count : covered];
    for (size_t first = 0; first < w.channels; first += kBlock) {
      const size_t size = w.channels - first < kBlock ? w.channels - first : kBlock;
      Sums<storage> sums;
      for (size_t r = 0; r < w.row_count; ++r) {
        for (size_t s = taps.begin; s < taps.end; ++s) {
          sums.add(tap_pixel(w, taps, r, s) + first, size);
        }
      }
      write_means(args, sums.finish(), size, covered, multiplier, w.y + j * w.channels + first);
    }
  }
}

template <Storage storage>
void global_mean(const GlobalMeanArgs& args) {
  for (size_t first = 0; first < args.channels; first += kBlock) {
    const size_t size = args.channels - first < kBlock ? args.channels - first : kBlock;
    Sums<storage> sums;
    for (size_t p = 0; p < args.pixels; ++p) {
      sums.add(args.x + p * args.x_stride + first, size);
    }
    write_means(args, sums.finish(), size, args.pixels, args.multiplier, args.y + first);
  }
}

}  // namespace
}  // namespace edgekit
