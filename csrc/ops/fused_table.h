#pragma once

#include <cstddef>
#include <string>

#include "kernels/elementwise/elementwise.h"
#include "ops/code_table.h"
#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// A function fused into an op: y = codes[own + 128], where `own` is the code that the op computes
/// by itself, on a grid of scale and zero_point, after its residual if it has one. The op's lo and
/// hi bound `own`.
struct FusedTable {
  /// False: there is no function, and the other members mean nothing.
  bool present = false;
  float scale = 1;
  int32_t zero_point = 0;
  /// int8 [256].
  Blob codes;
};

/// The part of an op that applies its FusedTable to rows which it has just written, while they are
/// in the cache.
class TableStage {
 public:
  /// Checks the table, and sets `own` to the output as the op sees it before the table.
  bool init(const FusedTable& table, const TensorView& output, const PlanTarget& target,
            TensorView* own, std::string* error);

  bool present() const { return kernel_ != nullptr; }

  /// Returns how many rows of `width` bytes an op should write before it applies the table; a
  /// multiple of `granule`.
  static size_t block_rows(size_t width, size_t granule);

  /// Replaces `rows` rows of `width` codes, `stride` bytes apart.
  void apply(uint8_t* y, size_t rows, size_t width, size_t stride) const;

 private:
  CodeTable table_ = {};
  void (*kernel_)(const LookupArgs&) = nullptr;
};

}  // namespace edgekit
