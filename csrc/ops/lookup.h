#pragma once

#include <memory>
#include <string>

#include "ops/code_table.h"
#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// y = table[q + 128] for each code q. Both tensors have the same shape; the output may be the
/// input's very memory.
struct LookupParams {
  TensorView input;
  TensorView output;
  /// int8 [256]: codes, not stored values.
  Blob table;
};

std::unique_ptr<Op> make_lookup(const LookupParams& params, const PlanTarget& target,
                                std::string* error);

/// The same with a table that was made for the plan's storage.
std::unique_ptr<Op> make_table_lookup(const TensorView& input, const TensorView& output,
                                      const CodeTable& table, const PlanTarget& target,
                                      std::string* error);

}  // namespace edgekit
