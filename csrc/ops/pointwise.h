#pragma once

#include <memory>

#include "ops/gemm_layer.h"

namespace edgekit {

/// Returns the op of a layer whose input row m is the pixel of that index of `input`: fully
/// connected layers, 1x1 convolutions without stride and padding, and, for kernels with
/// strided_taps, columns of pixels, whose taps lie `tap_step` bytes apart. `rows` rows in all.
std::unique_ptr<Op> make_pointwise(GemmLayer layer, const TensorView& input, size_t rows,
                                   size_t tap_step, const PlanTarget& target);

}  // namespace edgekit
