#pragma once

#include <cstdint>

namespace edgekit {

/// The window that a convolution or a pool moves over height and width, in elements.
struct Window {
  uint32_t kernel_h = 1;
  uint32_t kernel_w = 1;
  uint32_t stride_h = 1;
  uint32_t stride_w = 1;
  uint32_t dilation_h = 1;
  uint32_t dilation_w = 1;
  uint32_t pad_top = 0;
  uint32_t pad_left = 0;
  uint32_t pad_bottom = 0;
  uint32_t pad_right = 0;
};

}  // namespace edgekit
