#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "ops/tensor.h"
#include "runtime/plan.h"

namespace edgekit {

/// Returns how many runs of the plan take in inputs of the given shapes, one of each of
/// Plan::inputs() (none for a state that the session keeps): their leading dimension may be a
/// multiple, the same for all, of the plan's. Returns 0 and sets `error`, which names the input,
/// where that is not so.
size_t count_batches(const Plan& plan, const std::vector<std::optional<Shape>>& shapes,
                     std::string* error);

/// Finds the size of the plan that takes inputs of the given shapes in the fewest runs: sets
/// `size`, an index of Plan::size(), and returns how many runs. Returns 0 and sets `error`, which
/// names the sizes that there are, where none does.
size_t find_size(const Plan& plan, const std::vector<std::optional<Shape>>& shapes, size_t* size,
                 std::string* error);

/// Returns the shape of `tensor`, an input or output, for that many runs.
Shape batched_shape(const TensorInfo& tensor, size_t batches);

}  // namespace edgekit
