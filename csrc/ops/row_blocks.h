#pragma once

#include <algorithm>
#include <cstddef>

#include "ops/tensor.h"
#include "ops/window.h"

namespace edgekit {

/// Output rows of images `[n, h, w, c]`, the units of an op that reads them through row pointers:
/// cut into blocks none of which leaves its image, and the input rows under each.
class RowBlocks {
 public:
  /// `most_rows` is what a block has at the most.
  RowBlocks(const Window& window, const Shape& input, const Shape& output, size_t most_rows)
      : images_(static_cast<size_t>(input.dims[0])),
        in_h_(static_cast<size_t>(input.dims[1])),
        out_h_(static_cast<size_t>(output.dims[1])),
        stride_(window.stride_h),
        extent_((size_t{window.kernel_h} - 1) * window.dilation_h + 1),
        pad_top_(window.pad_top),
        block_(std::min(most_rows, out_h_)) {}

  size_t units() const { return images_ * out_h_; }
  size_t in_h() const { return in_h_; }

  /// Returns how many input rows lie under `rows` output rows.
  size_t input_rows(size_t rows) const { return (rows - 1) * stride_ + extent_; }

  /// Returns how many lie under a block at the most.
  size_t most_input_rows() const { return input_rows(block_); }

  /// Returns the first input row of the image that `unit` belongs to, counted from the first image.
  size_t image_row(size_t unit) const { return unit / out_h_ * in_h_; }

  /// Returns the input row under the first row of the window of `unit`, in its image. A row above
  /// the image wraps around, so that it is in_h() or more, as one below is.
  size_t top(size_t unit) const { return unit % out_h_ * stride_ - pad_top_; }

  /// Calls `body(first unit, rows)` for each block of the units `[begin, end)`.
  template <typename Body>
  void for_each(size_t begin, size_t end, const Body& body) const {
    while (begin < end) {
      const size_t rows = std::min({end - begin, block_, out_h_ - begin % out_h_});
      body(begin, rows);
      begin += rows;
    }
  }

 private:
  size_t images_;
  size_t in_h_;
  size_t out_h_;
  size_t stride_;
  size_t extent_;
  size_t pad_top_;
  size_t block_;
};

}  // namespace edgekit
