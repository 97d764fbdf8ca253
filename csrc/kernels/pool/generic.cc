// Pools in plain C++: pixel by pixel, with the channels, which lie side by side, in the inner loop.

#include <cstring>

#include "kernels/pool/pool.h"
#include "kernels/rounding.h"
#include "kernels/storage.h"

namespace edgekit {
namespace {

/// The taps [begin, end) of a window's width that lie in the image, and the column of tap 0.
struct Taps {
  ptrdiff_t column;
  size_t begin;
  size_t end;
};

Taps covered_taps(const PoolWindow& w, size_t j) {
  const ptrdiff_t column =
      static_cast<ptrdiff_t>(j * w.stride_w) - static_cast<ptrdiff_t>(w.pad_left);
  const ptrdiff_t step = static_cast<ptrdiff_t>(w.dilation_w);
  Taps taps = {column, 0, w.kernel_w};
  if (column < 0) taps.begin = static_cast<size_t>((-column + step - 1) / step);
  while (taps.end > taps.begin && column + static_cast<ptrdiff_t>(taps.end - 1) * step >=
                                      static_cast<ptrdiff_t>(w.in_width)) {
    --taps.end;
  }
  return taps;
}

const uint8_t* tap_pixel(const PoolWindow& w, const Taps& taps, size_t row, size_t s) {
  return w.rows[row] +
         static_cast<size_t>(taps.column + static_cast<ptrdiff_t>(s * w.dilation_w)) * w.channels;
}

/// The type whose order is that of the stored values.
template <Storage storage>
struct StoredType {
  using Type = int8_t;
};

template <>
struct StoredType<Storage::kU8> {
  using Type = uint8_t;
};

template <Storage storage>
void max_pool(const MaxPoolArgs& args) {
  using Stored = typename StoredType<storage>::Type;
  const PoolWindow& w = args.window;
  const Stored hi = static_cast<Stored>(args.hi);
  for (size_t j = 0; j < w.out_width; ++j) {
    const Taps taps = covered_taps(w, j);
    uint8_t* __restrict y = w.y + j * w.channels;
    std::memset(y, args.lo, w.channels);
    for (size_t r = 0; r < w.row_count; ++r) {
      for (size_t s = taps.begin; s < taps.end; ++s) {
        const uint8_t* __restrict x = tap_pixel(w, taps, r, s);
        for (size_t c = 0; c < w.channels; ++c) {
          const Stored value = static_cast<Stored>(x[c]);
          const Stored best = static_cast<Stored>(y[c]);
          y[c] = static_cast<uint8_t>(value > best ? value : best);
        }
      }
    }
    for (size_t c = 0; c < w.channels; ++c) {
      const Stored best = static_cast<Stored>(y[c]);
      y[c] = static_cast<uint8_t>(best > hi ? hi : best);
    }
  }
}

/// Channels whose sums are kept at a time.
constexpr size_t kBlock = 64;

template <Storage storage>
void accumulate(const uint8_t* __restrict x, size_t channels, int32_t* __restrict sums) {
  for (size_t c = 0; c < channels; ++c) sums[c] += stored_value<storage>(x[c]);
}

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
      int32_t sums[kBlock] = {};
      for (size_t r = 0; r < w.row_count; ++r) {
        for (size_t s = taps.begin; s < taps.end; ++s) {
          accumulate<storage>(tap_pixel(w, taps, r, s) + first, size, sums);
        }
      }
      write_means(args, sums, size, covered, multiplier, w.y + j * w.channels + first);
    }
  }
}

template <Storage storage>
void global_mean(const GlobalMeanArgs& args) {
  for (size_t first = 0; first < args.channels; first += kBlock) {
    const size_t size = args.channels - first < kBlock ? args.channels - first : kBlock;
    int32_t sums[kBlock] = {};
    for (size_t p = 0; p < args.pixels; ++p) {
      accumulate<storage>(args.x + p * args.x_stride + first, size, sums);
    }
    write_means(args, sums, size, args.pixels, args.multiplier, args.y + first);
  }
}

}  // namespace

void max_pool_s8_s8_generic(const MaxPoolArgs& args) { max_pool<Storage::kS8>(args); }
void max_pool_u8_u8_generic(const MaxPoolArgs& args) { max_pool<Storage::kU8>(args); }
void average_pool_s8_s8_generic(const AveragePoolArgs& args) { average_pool<Storage::kS8>(args); }
void average_pool_u8_u8_generic(const AveragePoolArgs& args) { average_pool<Storage::kU8>(args); }
void global_mean_s8_s8_generic(const GlobalMeanArgs& args) { global_mean<Storage::kS8>(args); }
void global_mean_u8_u8_generic(const GlobalMeanArgs& args) { global_mean<Storage::kU8>(args); }

}  // namespace edgekit
