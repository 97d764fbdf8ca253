#include "runtime/bound_plan.h"

#include <algorithm>

#include "plan_generated.h"
#include "runtime/aligned_bytes.h"
#include "runtime/bind_op.h"

namespace edgekit {

size_t BoundPlan::scratch_size() const {
  size_t size = 0;
  for (const auto& op : ops) size = std::max(size, align_up(op->scratch_size()));
  return size;
}

bool bind_plan(const Plan& plan, uint8_t* arena, bool runs, BoundPlan* bound, std::string* error) {
  const plan::Plan& graph = plan.graph();
  const auto& tensors = *graph.tensors();
  bound->addresses.resize(tensors.size());
  std::vector<TensorView> views(tensors.size());
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    const plan::Tensor& tensor = *tensors[i];
    TensorView& view = views[i];
    view.name = tensor.name()->c_str();
    view.data = &bound->addresses[i];
    view.dtype = static_cast<DType>(tensor.dtype());
    for (const int64_t dim : *tensor.shape()) view.shape.dims[view.shape.rank++] = dim;
    view.scale = tensor.scale();
    view.zero_point = tensor.zero_point();
    view.channels_last = tensor.channels_last();
    view.external = tensor.place() != plan::Place_Arena;
    if (!view.external) bound->addresses[i] = arena + tensor.offset();
  }
  const PlanTarget target = {plan.isa(), isa_info(plan.isa()).storage, runs};
  for (const plan::Op* op : *graph.ops()) {
    bound->ops.push_back(bind_op(*op, views, plan.constants(), target, error));
    if (bound->ops.back() == nullptr) return false;
  }
  return true;
}

bool find_memory_needs(const Plan& plan, MemoryNeeds* needs, std::string* error) {
  // Ops look at addresses to see what overlaps; any aligned one does.
  uint8_t* const nowhere = reinterpret_cast<uint8_t*>(uintptr_t{1} << 20u);
  BoundPlan bound;
  if (!bind_plan(plan, nowhere, false, &bound, error)) return false;
  needs->plan = plan.file_size();
  needs->arena = plan.arena_size();
  needs->scratch = bound.scratch_size();
  for (const auto* list : {&plan.inputs(), &plan.outputs()}) {
    for (const TensorInfo& tensor : *list) needs->external += tensor.size;
  }
  return true;
}

}  // namespace edgekit
