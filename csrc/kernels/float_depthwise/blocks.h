#pragma once

#include <cstddef>

#include "kernels/float_depthwise/float_depthwise.h"

// The float32 depthwise convolution over vectors of channels, for every kernel. Internal linkage
// throughout: each instruction set compiles its own copy, with its own Simd:
//
//   kLanes, V                          channels side by side
//   load(from), load(from, count)      all lanes, or the first `count`
//   store(to, v), store(to, v, count)
//   fma(x, w, acc), add(a, b), clamp(v, lo, hi)
//
// Inside an image's row, kTilePixels pixels share each load of a weight. Where the window leaves
// the row, one pixel at a time takes several vectors of channels.

namespace edgekit {
namespace {

template <class Simd>
class FloatDepthwise {
 public:
  explicit FloatDepthwise(const FloatDepthwiseArgs& args) : args_(args) {
    // Output columns [begin_, end_) have their whole window inside the row.
    const size_t span = (args.kernel_w - 1) * args.dilation_w + 1;
    begin_ = (args.pad_left + args.stride_w - 1) / args.stride_w;
    if (begin_ > args.out_width) begin_ = args.out_width;
    end_ = begin_;
    if (args.in_width + args.pad_left >= span) {
      const size_t last = (args.in_width + args.pad_left - span) / args.stride_w + 1;
      if (last > begin_) end_ = last < args.out_width ? last : args.out_width;
    }
  }

  void run() const {
    const size_t whole = args_.channels / kLanes * kLanes;
    for (size_t c = 0; c < whole; c += kLanes) run_inside<true>(c);
    if (whole < args_.channels) run_inside<false>(whole);
    for (size_t i = 0; i < args_.out_rows; ++i) {
      for (size_t j = 0; j < begin_; ++j) run_pixel(i, j);
      for (size_t j = end_; j < args_.out_width; ++j) run_pixel(i, j);
    }
  }

 private:
  using V = typename Simd::V;
  static constexpr size_t kLanes = Simd::kLanes;
  static constexpr size_t kTilePixels = 8;
  static constexpr size_t kEdgeVectors = 4;

  template <bool kWhole>
  static V load(const float* from, size_t count) {
    if constexpr (kWhole) {
      return Simd::load(from);
    } else {
      return Simd::load(from, count);
    }
  }

  template <bool kWhole>
  void finish(size_t i, size_t j, size_t c, V v) const {
    const size_t element = j * args_.channels + c;
    const size_t count = args_.channels - c;
    if (args_.residual != nullptr) {
      const char* row = reinterpret_cast<const char*>(args_.residual) + i * args_.residual_stride;
      v = Simd::add(v, load<kWhole>(reinterpret_cast<const float*>(row) + element, count));
    }
    v = Simd::clamp(v, args_.lo, args_.hi);
    char* row = reinterpret_cast<char*>(args_.y) + i * args_.y_stride;
    float* y = reinterpret_cast<float*>(row) + element;
    if constexpr (kWhole) {
      Simd::store(y, v);
    } else {
      Simd::store(y, v, count);
    }
  }

  template <bool kWhole>
  void run_inside(size_t c) const {
    for (size_t i = 0; i < args_.out_rows; ++i) {
      size_t j = begin_;
      for (; j + kTilePixels <= end_; j += kTilePixels) run_tile<kTilePixels, kWhole>(i, j, c);
      switch (end_ - j) {
        case 7:
          run_tile<7, kWhole>(i, j, c);
          break;
        case 6:
          run_tile<6, kWhole>(i, j, c);
          break;
        case 5:
          run_tile<5, kWhole>(i, j, c);
          break;
        case 4:
          run_tile<4, kWhole>(i, j, c);
          break;
        case 3:
          run_tile<3, kWhole>(i, j, c);
          break;
        case 2:
          run_tile<2, kWhole>(i, j, c);
          break;
        case 1:
          run_tile<1, kWhole>(i, j, c);
          break;
        default:
          break;
      }
    }
  }

  /// kPixels pixels of one vector of channels, their windows inside the row.
  template <size_t kPixels, bool kWhole>
  void run_tile(size_t i, size_t j, size_t c) const {
    const size_t count = args_.channels - c;
    const size_t step = args_.stride_w * args_.channels;
    const size_t dilation = args_.dilation_w * args_.channels;
    const size_t first = (j * args_.stride_w - args_.pad_left) * args_.channels + c;
    const float* w = args_.w + c * args_.kernel_h * args_.kernel_w;
    V acc[kPixels];
    const V bias = Simd::load(args_.bias + c);
#pragma GCC unroll 8
    for (size_t p = 0; p < kPixels; ++p) acc[p] = bias;
    for (size_t r = 0; r < args_.kernel_h; ++r) {
      const float* x = args_.rows[i * args_.stride_h + r * args_.dilation_h] + first;
      for (size_t s = 0; s < args_.kernel_w; ++s, w += kLanes, x += dilation) {
        const V weight = Simd::load(w);
#pragma GCC unroll 8
        for (size_t p = 0; p < kPixels; ++p) {
          acc[p] = Simd::fma(load<kWhole>(x + p * step, count), weight, acc[p]);
        }
      }
    }
#pragma GCC unroll 8
    for (size_t p = 0; p < kPixels; ++p) finish<kWhole>(i, j + p, c, acc[p]);
  }

  /// All channels of a pixel whose window leaves the row.
  void run_pixel(size_t i, size_t j) const {
    size_t c = 0;
    for (; c + kEdgeVectors * kLanes <= args_.channels; c += kEdgeVectors * kLanes) {
      run_edge<kEdgeVectors, true>(i, j, c);
    }
    for (; c + kLanes <= args_.channels; c += kLanes) run_edge<1, true>(i, j, c);
    if (c < args_.channels) run_edge<1, false>(i, j, c);
  }

  template <size_t kVectors, bool kWhole>
  void run_edge(size_t i, size_t j, size_t c) const {
    const size_t count = args_.channels - c;
    const size_t block = args_.kernel_h * args_.kernel_w * kLanes;
    const float* w = args_.w + c * args_.kernel_h * args_.kernel_w;
    V acc[kVectors];
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) acc[v] = Simd::load(args_.bias + c + v * kLanes);
    for (size_t r = 0; r < args_.kernel_h; ++r) {
      const float* row = args_.rows[i * args_.stride_h + r * args_.dilation_h];
      for (size_t s = 0; s < args_.kernel_w; ++s, w += kLanes) {
        // A column left of the row wraps around and is thereby outside as well.
        const size_t column = j * args_.stride_w + s * args_.dilation_w - args_.pad_left;
        const bool inside = column < args_.in_width;
        const float* x = (inside ? row + column * args_.channels : args_.zero) + c;
#pragma GCC unroll 4
        for (size_t v = 0; v < kVectors; ++v) {
          acc[v] =
              Simd::fma(load<kWhole>(x + v * kLanes, count), Simd::load(w + v * block), acc[v]);
        }
      }
    }
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) finish<kWhole>(i, j, c + v * kLanes, acc[v]);
  }

  const FloatDepthwiseArgs& args_;
  size_t begin_;
  size_t end_;
};

}  // namespace
}  // namespace edgekit
