#pragma once

#include <memory>
#include <string>

#include "ops/fused_table.h"
#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// The values are those of BinaryKind in runtime/plan.fbs.
enum class BinaryKind : uint8_t { kAdd, kSub, kMul, kMax, kMin };

/// Elementwise on codes with ONNX broadcasting; the output's shape is the broadcast of both. The
/// output may be the very memory of an input of the same shape, and must not overlap one otherwise.
/// Of images [n, h, w, c], b may also have a whole fraction of the height and the width of a: each
/// of its pixels is repeated, as a nearest resize by whole factors does.
struct BinaryParams {
  BinaryKind kind = BinaryKind::kAdd;
  TensorView a;
  TensorView b;
  TensorView output;
  int32_t lo = -128;
  int32_t hi = 127;
  FusedTable table;
};

std::unique_ptr<Op> make_binary(const BinaryParams& params, const PlanTarget& target,
                                std::string* error);

}  // namespace edgekit
