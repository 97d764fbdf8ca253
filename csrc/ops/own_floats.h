#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ops/tensor.h"

namespace edgekit {

/// Returns the float32 that has the value of a float16 (IEEE 754 binary16): every one has one.
float widen_half(uint16_t half);

/// The packed weights of a float32 layer: the plan's own, or, where that holds float16, a copy that
/// is widened when the layer is made. Moved, not copied.
class OwnFloats {
 public:
  OwnFloats() = default;
  OwnFloats(const OwnFloats&) = delete;
  OwnFloats& operator=(const OwnFloats&) = delete;
  OwnFloats(OwnFloats&&) = default;
  OwnFloats& operator=(OwnFloats&&) = default;
  ~OwnFloats() = default;

  /// Checks a blob of `count` weights of `bits` bits, 32 or 16.
  bool init(const Blob& blob, size_t count, size_t bits, std::string* error);

  /// Returns the weights; valid as long as this is.
  const float* data() const { return data_; }

 private:
  const float* data_ = nullptr;
  std::vector<float> own_;
};

}  // namespace edgekit
