#pragma once

#include <cstddef>
#include <cstdint>

#include "compress/update/update.h"

namespace edgekit::compress {

/// Where a convolution finds the inputs of an output position, in images [channels, height, width].
/// Rows of a matrix are images of 1 by 1 with a window of 1 by 1.
struct Window {
  size_t channels;
  size_t groups;
  int64_t height;
  int64_t width;
  int64_t kernel_h;
  int64_t kernel_w;
  int64_t stride_h;
  int64_t stride_w;
  int64_t dilation_h;
  int64_t dilation_w;
  int64_t pad_top;
  int64_t pad_left;
  int64_t out_h;
  int64_t out_w;
  /// A transposed convolution: output y takes input i by tap t where i stride + t dilation - pad =
  /// y.
  bool transposed;

  /// Elements of a patch: (channel of the group, vertical tap, horizontal tap), in this order.
  size_t depth() const {
    return channels / groups * static_cast<size_t>(kernel_h) * static_cast<size_t>(kernel_w);
  }
};

/// What an element is taken for: rint(x * scale) - offset, within [-limit, limit]. Padding is 0.
struct Grid {
  double scale;
  double offset;
  double limit;
};

/// Patches that are gathered at a time.
constexpr size_t kPatches = 128;

/// Writes tile `tile` of the patches of `group` at positions[0, count) of one image, count at most
/// kPatches: tile_out[kPatches][8], filled up with 0. A position is y * out_w + x.
template <typename T>
void gather_tile(const Window& window, const T* image, const Grid& grid, size_t group,
                 const uint32_t* positions, size_t count, size_t tile, double* tile_out);

}  // namespace edgekit::compress
