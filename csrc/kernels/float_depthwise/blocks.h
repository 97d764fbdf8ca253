#pragma once

#include <cstddef>

#include "kernels/float_depthwise/float_depthwise.h"

// The float32 depthwise convolution over vectors of channels, for every kernel. Internal linkage
// throughout: each instruction set compiles its own copy, with its own Simd:
//
//   kLanes, V                          channels side by side
//   kRegisters                         vector registers
//   kTiles                             whether the usual kernels take tiles
//   load(from), load(from, count)      all lanes, or the first `count`
//   store(to, v), store(to, v, count)
//   fma(x, w, acc), add(a, b), clamp(v, lo, hi)
//
// 3x3 and 5x5 at stride 1 and 2, the usual kernels, take tiles of 8, 7 or 4 pixels of a row, each
// input column of one kernel row in a register where there are 32 of them:
//
//   x0  x1  x2  x3 ...                 columns of the input
//   acc0 = x0 w0 + x1 w1 + x2 w2       a pixel at stride 1
//       acc1 = x1 w0 + x2 w1 + x3 w2   the next one
//
// A tile whose window leaves the row finds its columns through pointers; the last tile of a row
// overlaps the one before. Other kernels go pixel by pixel, except inside a row, where 8 pixels
// share the loads of weights.

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
    const size_t pixels = Simd::kTiles ? tile_pixels() : 0;
    if (pixels == 0) {
      run_any(0, whole);
    } else if constexpr (Simd::kTiles) {
      for (size_t c = 0; c < whole; c += kLanes) run_usual(pixels, c);
    }
    run_any(whole, args_.channels);
  }

 private:
  using V = typename Simd::V;
  static constexpr size_t kLanes = Simd::kLanes;
  static constexpr size_t kAnyPixels = 8;
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

  /// Returns the pixels of a tile, those that waste the fewest; 0 where no tile takes this kernel.
  size_t tile_pixels() const {
    const size_t kernel = args_.kernel_w;
    const bool usual = args_.kernel_h == kernel && (kernel == 3 || kernel == 5) &&
                       (args_.stride_w == 1 || args_.stride_w == 2) && args_.dilation_w == 1;
    const size_t width = args_.out_width;
    if (!usual || width < 4) return 0;
    size_t best = 4;
    size_t computed = (width + 3) / 4 * 4;
    for (size_t pixels = 7; pixels <= 8 && pixels <= width; ++pixels) {
      const size_t count = (width + pixels - 1) / pixels * pixels;
      // Fewer tiles share more loads.
      if (count > computed + pixels / 4) continue;
      best = pixels;
      computed = count;
    }
    return best;
  }

  void run_usual(size_t pixels, size_t c) const {
    if (args_.kernel_w == 3) {
      args_.stride_w == 1 ? run_rows<3, 1>(pixels, c) : run_rows<3, 2>(pixels, c);
    } else {
      args_.stride_w == 1 ? run_rows<5, 1>(pixels, c) : run_rows<5, 2>(pixels, c);
    }
  }

  template <size_t kKernel, size_t kStride>
  void run_rows(size_t pixels, size_t c) const {
    switch (pixels) {
      case 8:
        return run_rows<kKernel, kStride, 8>(c);
      case 7:
        return run_rows<kKernel, kStride, 7>(c);
      default:
        return run_rows<kKernel, kStride, 4>(c);
    }
  }

  template <size_t kKernel, size_t kStride, size_t kPixels>
  void run_rows(size_t c) const {
    for (size_t i = 0; i < args_.out_rows; ++i) {
      for (size_t j = 0; j < args_.out_width; j += kPixels) {
        const size_t first = j + kPixels <= args_.out_width ? j : args_.out_width - kPixels;
        if (first >= begin_ && first + kPixels <= end_) {
          run_tile<kKernel, kStride, kPixels, false>(i, first, c);
        } else {
          run_tile<kKernel, kStride, kPixels, true>(i, first, c);
        }
      }
    }
  }

  template <size_t kKernel, size_t kStride, size_t kPixels, bool kEdge>
  void run_tile(size_t i, size_t j, size_t c) const {
    constexpr size_t kColumns = (kPixels - 1) * kStride + kKernel;
    // Columns outside wrap around, and are not looked at.
    const size_t first = j * kStride - args_.pad_left;
    const float* w = args_.w + c * kKernel * kKernel;
    V acc[kPixels];
    const V bias = Simd::load(args_.bias + c);
#pragma GCC unroll 8
    for (size_t p = 0; p < kPixels; ++p) acc[p] = bias;
    for (size_t r = 0; r < kKernel; ++r, w += kKernel * kLanes) {
      const float* row = args_.rows[i * args_.stride_h + r * args_.dilation_h] + c;
      const auto column = [&](size_t at) {
        if constexpr (kEdge) {
          return first + at < args_.in_width ? row + (first + at) * args_.channels : args_.zero + c;
        } else {
          return row + (first + at) * args_.channels;
        }
      };
      if constexpr (Simd::kRegisters >= 32) {
        V x[kColumns];
#pragma GCC unroll 20
        for (size_t at = 0; at < kColumns; ++at) x[at] = Simd::load(column(at));
#pragma GCC unroll 5
        for (size_t s = 0; s < kKernel; ++s) {
          const V weight = Simd::load(w + s * kLanes);
#pragma GCC unroll 8
          for (size_t p = 0; p < kPixels; ++p) {
            acc[p] = Simd::fma(x[p * kStride + s], weight, acc[p]);
          }
        }
      } else {
        // Not unrolled over s, or the compiler would keep columns that don't fit in registers.
        const float* columns[kColumns];
        if constexpr (kEdge) {
#pragma GCC unroll 20
          for (size_t at = 0; at < kColumns; ++at) columns[at] = column(at);
        }
#pragma GCC unroll 1
        for (size_t s = 0; s < kKernel; ++s) {
          const V weight = Simd::load(w + s * kLanes);
#pragma GCC unroll 8
          for (size_t p = 0; p < kPixels; ++p) {
            const size_t at = p * kStride + s;
            acc[p] = Simd::fma(Simd::load(kEdge ? columns[at] : column(at)), weight, acc[p]);
          }
        }
      }
    }
#pragma GCC unroll 8
    for (size_t p = 0; p < kPixels; ++p) finish<true>(i, j + p, c, acc[p]);
  }

  /// Channels [begin, end) with any kernel.
  void run_any(size_t begin, size_t end) const {
    for (size_t i = 0; i < args_.out_rows; ++i) {
      size_t j = 0;
      while (j < args_.out_width) {
        if (j >= begin_ && j + kAnyPixels <= end_) {
          size_t c = begin;
          for (; c + kLanes <= end; c += kLanes) run_inside<true>(i, j, c);
          if (c < end) run_inside<false>(i, j, c);
          j += kAnyPixels;
        } else {
          run_pixel(i, j, begin, end);
          ++j;
        }
      }
    }
  }

  /// kAnyPixels pixels whose windows lie inside the row.
  template <bool kWhole>
  void run_inside(size_t i, size_t j, size_t c) const {
    const size_t count = args_.channels - c;
    const size_t step = args_.stride_w * args_.channels;
    const size_t dilation = args_.dilation_w * args_.channels;
    const size_t first = (j * args_.stride_w - args_.pad_left) * args_.channels + c;
    const float* w = args_.w + c * args_.kernel_h * args_.kernel_w;
    V acc[kAnyPixels];
    const V bias = Simd::load(args_.bias + c);
#pragma GCC unroll 8
    for (size_t p = 0; p < kAnyPixels; ++p) acc[p] = bias;
    for (size_t r = 0; r < args_.kernel_h; ++r) {
      const float* x = args_.rows[i * args_.stride_h + r * args_.dilation_h] + first;
      for (size_t s = 0; s < args_.kernel_w; ++s, w += kLanes, x += dilation) {
        const V weight = Simd::load(w);
#pragma GCC unroll 8
        for (size_t p = 0; p < kAnyPixels; ++p) {
          acc[p] = Simd::fma(load<kWhole>(x + p * step, count), weight, acc[p]);
        }
      }
    }
#pragma GCC unroll 8
    for (size_t p = 0; p < kAnyPixels; ++p) finish<kWhole>(i, j + p, c, acc[p]);
  }

  /// Channels [begin, end) of a pixel.
  void run_pixel(size_t i, size_t j, size_t begin, size_t end) const {
    size_t c = begin;
    for (; c + kEdgeVectors * kLanes <= end; c += kEdgeVectors * kLanes) {
      run_edge<kEdgeVectors, true>(i, j, c);
    }
    for (; c + kLanes <= end; c += kLanes) run_edge<1, true>(i, j, c);
    if (c < end) run_edge<1, false>(i, j, c);
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
