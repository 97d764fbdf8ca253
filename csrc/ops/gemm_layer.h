#pragma once

#include <string>
#include <vector>

#include "kernels/gemm/gemm.h"
#include "kernels/sparse_gemm/sparse_gemm.h"
#include "ops/epilogue.h"
#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// The multiplication of a fully connected layer or a convolution.
struct GemmLayerParams {
  /// A row of kernels/gemm/kernels.inc or, for one group, of kernels/sparse_gemm/kernels.inc.
  const char* kernel;
  Blob weights;
  /// Of one group: output channels, input channels of one tap, and taps.
  size_t groups;
  size_t n;
  size_t k;
  size_t taps;
  Blob bias;
  Blob multiplier;
  int32_t lo;
  int32_t hi;
  const TensorView* output;
  const Residual* residual;
  const FusedTable* table;
  FusedEpilogue fused;
};

/// A GEMM kernel with the weights, the bias and the epilogue of each group.
class GemmLayer {
 public:
  /// Checks the kernel, the constants and the residual, not the shapes of input and output.
  bool init(const GemmLayerParams& params, const PlanTarget& target, std::string* error);

  /// Returns the arguments for output rows [row, row + m) of group g; a, a_stride and rows are left
  /// to the caller.
  GemmArgs args(size_t group, size_t row, size_t m) const;

  /// Narrows arguments for all columns of the only group to at most `columns` columns from `first`,
  /// a multiple of nr, on.
  void cut_columns(size_t first, size_t columns, GemmArgs* args) const;

  /// Runs the kernel, and the table behind it where the layer has one.
  void run(const GemmArgs& args) const;

  const GemmKernel& kernel() const { return *kernel_; }
  size_t groups() const { return groups_; }
  size_t n() const { return n_; }
  size_t k() const { return k_; }
  size_t taps() const { return taps_; }

  /// Returns the bytes of one output element.
  size_t element_size() const { return element_size_; }

  /// Returns the multiplications for m output rows.
  size_t cost(size_t m) const { return m * groups_ * n_ * k_ * taps_; }

 private:
  /// Checks the weights and finds their parts.
  bool read_weights(const GemmLayerParams& params, std::string* error);

  /// Checks and takes the constants of FusedRequantize.
  bool take_fused(const GemmLayerParams& params, std::string* error);

  /// Returns the largest magnitude that the products of each channel of each group can add up to,
  /// for storage kS8.
  std::vector<int64_t> bound_products() const;

  const GemmKernel* kernel_ = nullptr;
  size_t groups_ = 0;
  size_t n_ = 0;
  size_t k_ = 0;
  size_t taps_ = 0;
  const int8_t* weights_ = nullptr;
  size_t group_size_ = 0;
  /// Of a sparse kernel.
  SparseWeights sparse_ = {};
  /// Of each group, `wide_size_` bytes.
  std::vector<uint8_t> wide_steps_;
  size_t wide_size_ = 0;
  Epilogue epilogue_;
  Output kind_ = Output::kCodes;
  uint8_t* const* output_ = nullptr;
  size_t element_size_ = 0;
  size_t y_stride_ = 0;
};

}  // namespace edgekit
