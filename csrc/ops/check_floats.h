#pragma once

#include <string>

#include "ops/tensor.h"

namespace edgekit {

// What float32 operators check of their tensors and bounds. Each returns false and sets the error
// where something is wrong.

/// Checks that a tensor holds float32, and as check_tensor().
bool check_floats(const TensorView& tensor, std::string* error);

/// Checks that lo <= hi; neither is a NaN.
bool check_float_bounds(float lo, float hi, std::string* error);

/// Checks that both are [n, h, w, c] with the same n and c, and do not overlap.
bool check_float_images(const TensorView& input, const TensorView& output, std::string* error);

/// Checks that both have the same shape, of rank 1 or more, and overlap wholly or not at all.
bool check_float_pair(const TensorView& input, const TensorView& output, std::string* error);

}  // namespace edgekit
