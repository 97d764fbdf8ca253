#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/float_gemm/float_gemm.h"
#include "ops/op.h"
#include "ops/own_floats.h"
#include "ops/tensor.h"

namespace edgekit {

/// What a float32 layer adds to its products: y = clip(products + bias + residual, lo, hi).
struct FloatEpilogue {
  /// float32, one an output channel.
  Blob bias;
  float lo = 0;
  float hi = 0;
  /// False: there is no residual, and `residual` means nothing.
  bool adds = false;
  /// float32 of the output's shape; must not overlap the output.
  TensorView residual;
};

/// Checks bias (of `channels` elements), bounds and residual.
bool check_float_epilogue(const FloatEpilogue& epilogue, size_t channels, const TensorView& output,
                          std::string* error);

/// Returns the floats of a blob, and zeros up to a multiple of `unit`.
std::vector<float> padded_floats(const Blob& blob, size_t unit);

/// The multiplication of a float32 layer, of any number of groups.
struct FloatLayerParams {
  const char* kernel;
  /// pack_float_gemm() of each group `[n][taps][k]`, one behind the other, as float32 or float16.
  Blob weights;
  size_t weight_bits = 32;
  size_t groups;
  size_t n;
  size_t k;
  size_t taps;
  const FloatEpilogue* epilogue;
  const TensorView* output;
};

class FloatLayer {
 public:
  /// Checks the kernel, the constants and the residual, not the shapes of input and output.
  bool init(const FloatLayerParams& params, const PlanTarget& target, std::string* error);

  /// Returns the arguments for output rows [row, row + m) of a group; a, a_stride and rows are left
  /// to the caller.
  FloatGemmArgs args(size_t group, size_t row, size_t m) const;

  void run(const FloatGemmArgs& args) const { kernel_->run(args); }

  const FloatGemmKernel& kernel() const { return *kernel_; }
  size_t groups() const { return groups_; }
  size_t n() const { return n_; }
  size_t k() const { return k_; }
  size_t taps() const { return taps_; }

  /// Returns the multiplications for m output rows.
  size_t cost(size_t m) const { return m * groups_ * n_ * k_ * taps_; }

 private:
  const FloatGemmKernel* kernel_ = nullptr;
  size_t groups_ = 0;
  size_t n_ = 0;
  size_t k_ = 0;
  size_t taps_ = 0;
  OwnFloats weights_;
  size_t group_size_ = 0;
  /// Each group's, padded to whole panels.
  std::vector<float> bias_;
  size_t padded_n_ = 0;
  float lo_ = 0;
  float hi_ = 0;
  uint8_t* const* residual_ = nullptr;
  uint8_t* const* output_ = nullptr;
};

/// Returns the op for a layer of one tap whose rows of input lie side by side, `rows` of them: its
/// units are rows, or tiles of columns where the rows are few.
std::unique_ptr<Op> make_float_pointwise(FloatLayer layer, const TensorView& input, size_t rows);

}  // namespace edgekit
