#pragma once

#include <string>
#include <vector>

#include "kernels/requantize.h"
#include "ops/op.h"
#include "ops/residual.h"
#include "ops/tensor.h"

namespace edgekit {

/// What a multiplying layer adds to its products: bias, multipliers, bounds and a sum.
struct EpilogueParams {
  Blob bias;
  Blob multiplier;
  /// Groups of n channels each; a kernel reads up to the next multiple of `padding` of a group.
  size_t groups;
  size_t n;
  size_t padding;
  /// Products in one accumulator.
  size_t depth;
  int32_t lo;
  int32_t hi;
  const TensorView* output;
  const Residual* residual;
};

/// The epilogue in the form that kernels take: stored values, padded constants.
class Epilogue {
 public:
  /// Checks blobs, bounds, the residual and that no accumulator can leave int32.
  bool init(const EpilogueParams& params, const PlanTarget& target, std::string* error);

  const int32_t* bias(size_t group) const { return bias_.data() + group * padded_n_; }

  /// Returns what follows the accumulators of a group from output channel 0 of the output's pixel
  /// `pixel` on. Its residual is found at each call, since the memory may be the caller's.
  Requantize requantize(size_t group, size_t pixel) const;

 private:
  size_t n_ = 0;
  size_t padded_n_ = 0;
  std::vector<int32_t> bias_;
  std::vector<float> scale_;
  uint8_t* const* residual_ = nullptr;
  Requantize requantize_ = {};
};

}  // namespace edgekit
