#pragma once

#include <string>
#include <vector>

#include "kernels/requantize.h"
#include "ops/fused_epilogue.h"
#include "ops/fused_table.h"
#include "ops/op.h"
#include "ops/residual.h"
#include "ops/tensor.h"

namespace edgekit {

/// Checks that no accumulator of `depth` products with weights of that many bits can leave int32:
/// of 4 bits, where kernels may hold 16 times of them, not even so.
bool check_accumulators(const int32_t* bias, size_t count, size_t depth, size_t weight_bits,
                        std::string* error);

/// What a multiplying layer adds to its products: bias, multipliers, bounds, a sum and a table.
struct EpilogueParams {
  /// int32 and float32: n elements a group or, where they need not be copied, n rounded up to a
  /// multiple of `padding`.
  Blob bias;
  Blob multiplier;
  /// Groups of n channels each; a kernel reads up to the next multiple of `padding` of a group.
  size_t groups;
  size_t n;
  size_t padding;
  /// Products in one accumulator, and bits of their weights, 8 or 4.
  size_t depth;
  size_t weight_bits = 8;
  int32_t lo;
  int32_t hi;
  const TensorView* output;
  const Residual* residual;
  const FusedTable* table;
};

/// The epilogue in the form that kernels take: stored values, padded constants. Moved, not copied.
class Epilogue {
 public:
  Epilogue() = default;
  Epilogue(Epilogue&&) = default;
  Epilogue& operator=(Epilogue&&) = default;

  /// Checks blobs, bounds, the residual and that no accumulator can leave int32.
  bool init(const EpilogueParams& params, const PlanTarget& target, std::string* error);

  /// Returns whether Requantize::products_fit_16 was proved.
  bool are_products_bounded() const { return requantize_.products_fit_16; }

  /// Tries to prove it from what each channel's products can add up to, in magnitude, which init()
  /// takes to be `depth` times the largest product.
  void bound_products(const std::vector<int64_t>& products);

  /// Takes constants with which one multiplication and addition requantizes, where codes are
  /// written without a residual. Checks sizes and ranges, not that the codes are the same: the
  /// constants are trusted as weights are.
  bool fuse(const FusedEpilogue& constants, std::string* error);

  const int32_t* bias(size_t group) const { return bias_ + group * padded_n_; }

  /// Returns what follows the accumulators of a group from output channel 0 of the output's pixel
  /// `pixel` on. Its residual is found at each call, since the memory may be the caller's.
  Requantize requantize(size_t group, size_t pixel) const;

  /// What the layer applies to codes that a kernel has just written.
  const TableStage& table() const { return table_; }

 private:
  size_t groups_ = 0;
  size_t n_ = 0;
  size_t padded_n_ = 0;
  size_t channels_ = 0;
  /// The plan's own constants, or those below.
  const int32_t* bias_ = nullptr;
  const float* scale_ = nullptr;
  std::vector<int32_t> own_bias_;
  std::vector<float> own_scale_;
  /// The plan's own constants, null where it has none.
  FusedRequantize fused_;
  uint8_t* const* residual_ = nullptr;
  size_t residual_size_ = 1;
  Requantize requantize_ = {};
  TableStage table_;
};

}  // namespace edgekit
