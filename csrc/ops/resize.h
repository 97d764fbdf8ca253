#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// Images [n, h, w, c] become [n, oh, ow, c]. Without weights output row i and column j are input
/// row rows[i] and column columns[j], bytes of any type. With weights, of codes, each is between
/// that one and the next, weights / 2048 of the way, as LinearRowArgs says, with the multiplier
/// float32(s_x / s_y) * 2^-22; behind the last there is the last. Input and output must not
/// overlap.
struct ResizeParams {
  TensorView input;
  TensorView output;
  std::vector<uint32_t> rows;
  std::vector<uint32_t> columns;
  /// In [0, 2048]; both empty, or as many as rows and columns.
  std::vector<uint16_t> row_weights;
  std::vector<uint16_t> column_weights;
  int32_t lo = -128;
  int32_t hi = 127;
};

std::unique_ptr<Op> make_resize(const ResizeParams& params, const PlanTarget& target,
                                std::string* error);

}  // namespace edgekit
