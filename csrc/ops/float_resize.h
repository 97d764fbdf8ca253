#pragma once

#include <memory>
#include <string>

#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

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
