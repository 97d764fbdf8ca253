#pragma once

#include <string>

#include "kernels/wide/wide.h"
#include "ops/wide_layer.h"

namespace edgekit {

/// The sizes of a 16x8 layer; what is no image is one row of pixels.
struct WideShape {
  size_t batch = 1;
  size_t in_h = 1;
  size_t in_w = 1;
  size_t c = 1;
  size_t out_h = 1;
  size_t out_w = 1;
  size_t n = 1;
  Window window;

  size_t pixels() const { return batch * out_h * out_w; }
  size_t taps() const { return size_t{window.kernel_h} * window.kernel_w; }
  /// Products of an output of a layer that is not depthwise.
  size_t depth() const { return taps() * c; }
};

/// Checks all but kernel and weights.
bool check_wide(const WideLayerParams& params, WideShape* shape, std::string* error);

/// Returns what is left to do with sums, of parameters that were checked: all but sums and output.
WideFinishArgs wide_finish(const WideLayerParams& params, size_t channels);

}  // namespace edgekit
