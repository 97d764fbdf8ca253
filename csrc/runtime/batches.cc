#include "runtime/batches.h"

#include <algorithm>

namespace edgekit {

size_t count_batches(const Plan& plan, const std::vector<std::optional<Shape>>& shapes,
                     std::string* error) {
  const std::vector<TensorInfo>& inputs = plan.inputs();
  size_t batches = 1;
  bool first = true;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::optional<Shape>& given = shapes[i];
    if (!given.has_value()) continue;
    const Shape& want = inputs[i].shape;
    const Shape& have = *given;
    const auto wrong = [&](const std::string& rule) -> size_t {
      *error = std::string("input '") + inputs[i].name + "' has shape " + format_shape(have) +
               ", the plan takes " + format_shape(want) + rule;
      return 0;
    };
    if (have.rank != want.rank) return wrong("");
    if (want.rank == 0) continue;
    if (!std::equal(want.dims + 1, want.dims + want.rank, have.dims + 1) || have.dims[0] < 1 ||
        have.dims[0] % want.dims[0] != 0) {
      return wrong(" or a multiple of its leading dimension");
    }
    const auto count = static_cast<size_t>(have.dims[0] / want.dims[0]);
    if (!first && count != batches) return wrong(" for as many samples as the inputs before it");
    batches = count;
    first = false;
  }
  if (batches == 1) return 1;
  for (const auto* list : {&plan.inputs(), &plan.outputs()}) {
    for (const TensorInfo& tensor : *list) {
      if (tensor.shape.rank > 0) continue;
      *error = std::string("the plan can't run on a larger batch: '") + tensor.name +
               "' has no leading dimension";
      return 0;
    }
  }
  return batches;
}

size_t find_size(const Plan& plan, const std::vector<std::optional<Shape>>& shapes, size_t* size,
                 std::string* error) {
  size_t fewest = 0;
  for (size_t i = 0; i < plan.size_count(); ++i) {
    const size_t batches = count_batches(plan.size(i), shapes, error);
    if (batches == 0 || (fewest != 0 && batches >= fewest)) continue;
    fewest = batches;
    *size = i;
  }
  if (fewest != 0 || plan.size_count() == 1) return fewest;
  *error = "no size of the plan takes";
  const auto append = [&](size_t input, const Shape& shape) {
    *error += std::string(" '") + plan.inputs()[input].name + "' " + format_shape(shape);
  };
  for (size_t k = 0; k < shapes.size(); ++k) {
    const std::optional<Shape>& given = shapes[k];
    if (given.has_value()) append(k, *given);
  }
  *error += ": there are";
  for (size_t i = 0; i < plan.size_count(); ++i) {
    if (i > 0) *error += ',';
    for (size_t k = 0; k < shapes.size(); ++k) {
      if (shapes[k].has_value()) append(k, plan.size(i).inputs()[k].shape);
    }
  }
  *error += ", and multiples of their leading dimensions";
  return 0;
}

Shape batched_shape(const TensorInfo& tensor, size_t batches) {
  Shape shape = tensor.shape;
  if (shape.rank > 0) shape.dims[0] *= static_cast<int64_t>(batches);
  return shape;
}

}  // namespace edgekit
