#include "compress/patches.h"

#include <algorithm>

#include "compress/round_even.h"

namespace edgekit::compress {
namespace {

/// Returns the row or column of the input that a tap of an output meets, or -1.
int64_t source(bool transposed, int64_t out, int64_t tap, int64_t stride, int64_t dilation,
               int64_t pad, int64_t extent) {
  int64_t at = out * stride + tap * dilation - pad;
  if (transposed) {
    const int64_t reached = out + pad - tap * dilation;
    if (reached < 0 || reached % stride != 0) return -1;
    at = reached / stride;
  }
  return at < extent ? std::max<int64_t>(at, -1) : -1;
}

}  // namespace

template <typename T>
void gather_tile(const Window& window, const T* image, const Grid& grid, size_t group,
                 const uint32_t* positions, size_t count, size_t tile, double* tile_out) {
  const size_t depth = window.depth();
  const auto taps_w = static_cast<size_t>(window.kernel_w);
  const size_t taps = static_cast<size_t>(window.kernel_h) * taps_w;
  const auto plane = static_cast<size_t>(window.height * window.width);
  int64_t rows[kPatches], columns[kPatches];
  for (size_t p = 0; p < count; ++p) {
    rows[p] = positions[p] / window.out_w;
    columns[p] = positions[p] % window.out_w;
  }
  std::fill_n(tile_out, kPatches * kTile, 0.0);
  const size_t lanes = std::min(kTile, depth - tile * kTile);
  for (size_t lane = 0; lane < lanes; ++lane) {
    const size_t element = tile * kTile + lane;
    const size_t channel = group * (window.channels / window.groups) + element / taps;
    const auto tap_y = static_cast<int64_t>(element % taps / taps_w);
    const auto tap_x = static_cast<int64_t>(element % taps_w);
    const T* from = image + channel * plane;
    for (size_t p = 0; p < count; ++p) {
      const int64_t y = source(window.transposed, rows[p], tap_y, window.stride_h,
                               window.dilation_h, window.pad_top, window.height);
      const int64_t x = source(window.transposed, columns[p], tap_x, window.stride_w,
                               window.dilation_w, window.pad_left, window.width);
      if (y < 0 || x < 0) continue;
      const double value = static_cast<double>(from[y * window.width + x]) * grid.scale;
      const double bounded = std::min(std::max(value, -grid.limit), grid.limit);
      tile_out[p * kTile + lane] = round_even(bounded) - grid.offset;
    }
  }
}

template void gather_tile<float>(const Window&, const float*, const Grid&, size_t, const uint32_t*,
                                 size_t, size_t, double*);
template void gather_tile<int8_t>(const Window&, const int8_t*, const Grid&, size_t,
                                  const uint32_t*, size_t, size_t, double*);

}  // namespace edgekit::compress
