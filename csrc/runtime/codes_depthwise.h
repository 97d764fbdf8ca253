#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "kernels/depthwise/depthwise.h"
#include "ops/depthwise.h"
#include "runtime/aligned_bytes.h"

namespace edgekit {

/// A depthwise convolution on one image of plain int8 codes:
///
///   acc[i, j, c] = bias[c] + sum_r sum_s (x(h, v, c) - x_zero_point) * w[c, r, s]
///   y[i, j, c]   = clamp(zero_point + rne(float32(acc[i, j, c]) * scale[c]), lo, hi)
///
/// with h and v as at DepthwiseArgs. Padding is x_zero_point.
struct CodesDepthwise {
  size_t h;
  size_t w;
  size_t channels;
  Window window;
  /// [channels][kernel_h][kernel_w], then one of each a channel.
  const int8_t* weights;
  const int32_t* bias;
  const float* scale;
  int32_t x_zero_point;
  int32_t zero_point;
  int32_t lo;
  int32_t hi;
};

/// The convolution with one kernel that this CPU can run, in a session's op and memory: for trying
/// kernels out and for timing them.
class PreparedDepthwise {
 public:
  /// Packs the weights of `problem`, which need not outlive the call. Returns false and sets
  /// `error` where shapes do not fit or memory is not to be had.
  bool init(const DepthwiseKernel& kernel, const CodesDepthwise& problem, std::string* error);

  /// Returns where x [h][w][channels] lies, stored values; zeros at first.
  uint8_t* x() const { return x_.get(); }

  /// Returns where y [out_h][out_w][channels] lies, stored values.
  uint8_t* y() const { return y_.get(); }

  size_t out_h() const { return out_h_; }
  size_t out_w() const { return out_w_; }

  /// Computes y from x on the calling thread.
  void run() const { op_->run(0, op_->units(), scratch_.get()); }

 private:
  size_t out_h_ = 0;
  size_t out_w_ = 0;
  AlignedBytes x_;
  AlignedBytes y_;
  AlignedBytes weights_;
  AlignedBytes bias_;
  AlignedBytes scale_;
  AlignedBytes scratch_;
  uint8_t* x_data_ = nullptr;
  uint8_t* y_data_ = nullptr;
  std::unique_ptr<Op> op_;
};

}  // namespace edgekit
