#pragma once

#include <cstddef>

#include "ops/tensor.h"

namespace edgekit {

/// One dimension of a broadcast: its size, and how many elements apart its neighbours lie in a and
/// b, 0 where that input repeats.
struct Dimension {
  size_t size;
  size_t a_step;
  size_t b_step;
};

/// A broadcast with as few dimensions as say the same, outermost first. At least one.
struct Broadcast {
  size_t rank = 0;
  Dimension dims[kMaxRank] = {};

  const Dimension& inner() const { return dims[rank - 1]; }
};

/// Works out the broadcast of two shapes, as ONNX's elementwise operators do; false when `out` is
/// not it.
bool find_broadcast(const Shape& a, const Shape& b, const Shape& out, Broadcast* broadcast);

}  // namespace edgekit
