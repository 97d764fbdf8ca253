#pragma once

#include <memory>

#include "ops/gemm_layer.h"

namespace edgekit {

/// Returns the op of a layer with one tap whose input row m starts at `m * groups * k` of `input`:
/// fully connected layers, and 1x1 convolutions without stride and padding. `rows` rows in all.
std::unique_ptr<Op> make_pointwise(GemmLayer layer, const TensorView& input, size_t rows,
                                   const PlanTarget& target);

}  // namespace edgekit
