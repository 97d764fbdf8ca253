#pragma once

#include <memory>
#include <string>

#include "kernels/float_vector/float_vector.h"
#include "ops/op.h"
#include "ops/pool.h"
#include "ops/tensor.h"
#include "ops/window.h"

namespace edgekit {

// Float32 operators that bring many elements to one, or norm them by all of their row.

/// Max or average pool over height and width, NHWC, its taps in ascending order; the output must
/// not overlap the input. Padding is never the maximum and adds nothing to a sum.
struct FloatPoolParams {
  PoolKind kind = PoolKind::kMax;
  TensorView input;
  TensorView output;
  Window window;
  /// Average only: whether padding counts as elements.
  bool count_include_pad = false;
};

std::unique_ptr<Op> make_float_pool(const FloatPoolParams& params, const PlanTarget& target,
                                    std::string* error);

/// Reduces the dimensions [begin, end) to one element. Over the last dimensions, sums go in 16
/// lanes (FloatReduceArgs); otherwise in ascending order. The output must not overlap the input and
/// has its elements in the order that is left.
struct FloatReduceParams {
  FloatReduction reduction = FloatReduction::kSum;
  TensorView input;
  TensorView output;
  uint32_t begin = 0;
  uint32_t end = 0;
};

std::unique_ptr<Op> make_float_reduce(const FloatReduceParams& params, const PlanTarget& target,
                                      std::string* error);

/// Over the last dimension; see FloatSoftmaxArgs. The output may be the input's very memory.
struct FloatSoftmaxParams {
  TensorView input;
  TensorView output;
};

std::unique_ptr<Op> make_float_softmax(const FloatSoftmaxParams& params, const PlanTarget& target,
                                       std::string* error);

/// Over the last dimensions, as many as make up the elements of scale and bias; see FloatNormArgs.
/// The output may be the input's very memory.
struct FloatLayerNormParams {
  TensorView input;
  TensorView output;
  Blob scale;
  Blob bias;
  float epsilon = 0;
};

std::unique_ptr<Op> make_float_layer_norm(const FloatLayerNormParams& params,
                                          const PlanTarget& target, std::string* error);

/// Resizes height and width of an NHWC tensor. Output row i is (1 - w) * x[a] + w * x[b] with (a,
/// b) = rows[i] and w = row_weights[i], columns likewise; columns are combined first, each product
/// and sum rounded. Nearest neighbours have w = 0 and are copied. The output must not overlap the
/// input.
struct FloatResizeParams {
  TensorView input;
  TensorView output;
  /// int32 [oh][2] and [ow][2].
  Blob rows;
  Blob columns;
  /// float32 [oh] and [ow], each in [0, 1].
  Blob row_weights;
  Blob column_weights;
};

std::unique_ptr<Op> make_float_resize(const FloatResizeParams& params, const PlanTarget& target,
                                      std::string* error);

}  // namespace edgekit
