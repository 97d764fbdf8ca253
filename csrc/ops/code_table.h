#pragma once

#include <cstdint>

#include "isa/isa.h"
#include "ops/tensor.h"

namespace edgekit {

/// A function of a code, from stored byte to stored byte.
struct CodeTable {
  uint8_t bytes[256];
};

/// Returns the table for `codes`, where codes[q + 128] is the code for q.
CodeTable stored_table(const int8_t* codes, Storage storage);

/// Returns the change from input's to output's scale and zero point:
/// clamp(z_y + rne(float32(q - z_x) * m), lo, hi) with m = float32(s_x / s_y).
CodeTable requantize_table(const TensorView& input, const TensorView& output, int32_t lo,
                           int32_t hi, Storage storage);

}  // namespace edgekit
