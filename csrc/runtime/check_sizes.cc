#include "runtime/check_sizes.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

namespace edgekit {
namespace {

bool same_borders(const std::vector<TensorInfo>& a, const std::vector<TensorInfo>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::strcmp(a[i].name, b[i].name) != 0 || a[i].dtype != b[i].dtype ||
        a[i].shape.rank != b[i].shape.rank) {
      return false;
    }
  }
  return true;
}

bool same_shapes(const std::vector<TensorInfo>& a, const std::vector<TensorInfo>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    const Shape& shape = a[i].shape;
    if (!std::equal(shape.dims, shape.dims + shape.rank, b[i].shape.dims)) return false;
  }
  return true;
}

bool same_states(const Plan& a, const Plan& b) {
  if (a.state_outputs() != b.state_outputs()) return false;
  for (size_t i = 0; i < a.inputs().size(); ++i) {
    if (a.state_outputs()[i] >= 0 && a.inputs()[i].size != b.inputs()[i].size) return false;
  }
  return true;
}

bool same_origin(const Plan& a, const Plan& b) {
  const std::string_view target = a.target();
  const std::string_view digest = a.source_digest();
  const std::string_view producer = a.producer();
  return a.isa() == b.isa() && target == b.target() && digest == b.source_digest() &&
         producer == b.producer() && a.cores() == b.cores();
}

}  // namespace

bool check_sizes(const Plan& plan, std::string* error) {
  for (size_t i = 1; i < plan.size_count(); ++i) {
    const Plan& size = plan.size(i);
    const char* wrong = nullptr;
    if (!same_origin(plan, size)) {
      wrong = "is for another target or of another model";
    } else if (!same_borders(plan.inputs(), size.inputs()) ||
               !same_borders(plan.outputs(), size.outputs())) {
      wrong = "has other inputs or outputs";
    } else if (!same_states(plan, size)) {
      wrong = "keeps other states";
    }
    for (size_t j = 0; j < i && wrong == nullptr; ++j) {
      if (same_shapes(plan.size(j).inputs(), size.inputs())) wrong = "is there twice";
    }
    if (wrong == nullptr) continue;
    *error = "the plan is invalid: its size " + std::to_string(i) + " " + wrong;
    return false;
  }
  return true;
}

}  // namespace edgekit
