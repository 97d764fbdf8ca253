#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// Joins the inputs along `axis` of the output's shape. Codes of another scale or zero point than
/// the output's are requantized on the way. An input that needs no change may lie in its place in
/// the output, and stays there; no other may overlap the output. Along the last axis inputs and
/// output may have gaps between pixels.
///
/// Of images [n, h, w, c] joined along c an input may have a whole fraction of the output's height
/// and of its width: each of its pixels is repeated, as a nearest resize by whole factors does.
struct ConcatParams {
  std::vector<TensorView> inputs;
  TensorView output;
  uint32_t axis = 0;
};

std::unique_ptr<Op> make_concat(const ConcatParams& params, const PlanTarget& target,
                                std::string* error);

}  // namespace edgekit
