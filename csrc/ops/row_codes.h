#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/elementwise/elementwise.h"
#include "kernels/float_vector/float_vector.h"
#include "ops/op.h"

namespace edgekit {

/// Brings float32 rows to codes, each by its own largest magnitude: docs/arithmetic.md, "Dynamic
/// products".
class RowCodes {
 public:
  explicit RowCodes(const PlanTarget& target);

  /// Makes the stored codes of `count` rows of k floats, one behind the other, and their scales.
  void make(const float* x, size_t count, size_t k, uint8_t* codes, float* scales) const;

  /// The same with one scale for all rows, which is given.
  void make_by(float scale, const float* x, size_t count, size_t k, uint8_t* codes,
               float* scales) const;

  /// Returns the scale of `count` floats by the largest magnitude of all.
  float find_scale(const float* x, size_t count) const;

 private:
  void quantize(const float* x, size_t count, size_t k, uint8_t* codes, const float* scales) const;

  int32_t zero_point_;
  void (*quantize_)(const QuantizeArgs&);
  const FloatVectorKernels& vector_;
};

}  // namespace edgekit
