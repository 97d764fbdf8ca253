#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ops/tensor.h"

namespace edgekit {

/// The packed weights of an op whose kernel takes bytes: the plan's own, or, where that holds two
/// to a byte, a copy that is made when the op is made. Moved, not copied.
class OwnWeights {
 public:
  /// Checks a blob of `count` weights of `bits` bits, 8 or 4.
  bool init(const Blob& blob, size_t count, size_t bits, std::string* error);

  /// Returns the weights, at a multiple of 64; valid as long as this is.
  const int8_t* data() const { return data_; }

 private:
  struct alignas(64) Line {
    int8_t weights[64];
  };

  const int8_t* data_ = nullptr;
  std::vector<Line> own_;
};

}  // namespace edgekit
