#include "runtime/bound_plan.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "ops/check.h"
#include "plan_generated.h"
#include "runtime/bind_op.h"
#include "runtime/bind_strips.h"
#include "runtime/check_graph.h"

namespace edgekit {
namespace {

/// What kernels may read behind codes.
constexpr size_t kSlack = 64;

/// Finds a constant tensor in the plan, or in a copy where it holds codes.
bool place_constant(const Plan& plan, uint32_t i, BoundPlan* bound, std::string* error) {
  const plan::Tensor& tensor = *plan.graph().tensors()->Get(i);
  const uint8_t* content = plan.constants() + tensor.offset();
  if (tensor.dtype() != plan::DType_Code) {
    // Ops only read it: the address of a tensor has one type, whatever its place.
    bound->addresses[i] = const_cast<uint8_t*>(content);
    return true;
  }
  const size_t size = tensor_bytes(tensor);
  AlignedBytes copy = make_aligned_bytes(size + kSlack);
  if (copy == nullptr) {
    *error = "no memory for the constant '" + tensor.name()->str() + "'";
    return false;
  }
  std::memcpy(copy.get(), content, size);
  if (isa_info(plan.isa()).storage == Storage::kU8) {
    for (size_t k = 0; k < size; ++k) copy[k] ^= 0x80;
  }
  bound->addresses[i] = copy.get();
  bound->constants.push_back(std::move(copy));
  return true;
}

TensorView describe_tensor(const plan::Tensor& tensor, uint8_t* const* address) {
  TensorView view;
  view.name = tensor.name()->c_str();
  view.data = address;
  view.dtype = static_cast<DType>(tensor.dtype());
  for (const int64_t dim : *tensor.shape()) view.shape.dims[view.shape.rank++] = dim;
  view.scale = tensor.scale();
  view.zero_point = tensor.zero_point();
  view.channels_last = tensor.channels_last();
  view.external = tensor.place() == plan::Place_Input || tensor.place() == plan::Place_Output;
  const auto stride = static_cast<size_t>(tensor.pixel_stride());
  if (stride != pixel_size(view)) view.pixel_stride = stride;
  view.in_strips = tensor.place() == plan::Place_Strips;
  return view;
}

}  // namespace

size_t BoundPlan::scratch_size() const {
  size_t size = 0;
  for (const Step& step : steps) size = std::max(size, align_up(step.op->scratch_size()));
  return size;
}

bool bind_plan(const Plan& plan, uint8_t* arena, size_t threads, bool runs, BoundPlan* bound,
               std::string* error) {
  const plan::Plan& graph = plan.graph();
  const auto& tensors = *graph.tensors();
  bound->addresses.resize(tensors.size());
  std::vector<TensorView> views(tensors.size());
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    const plan::Tensor& tensor = *tensors[i];
    views[i] = describe_tensor(tensor, &bound->addresses[i]);
    if (tensor.place() == plan::Place_Arena) bound->addresses[i] = arena + tensor.offset();
    if (tensor.place() == plan::Place_Constant && !place_constant(plan, i, bound, error)) {
      return false;
    }
  }
  const PlanTarget target = {plan.isa(), isa_info(plan.isa()).storage, runs};
  uint32_t next_strips = 0;
  for (uint32_t i = 0; i < graph.ops()->size();) {
    Step step;
    step.first_op = i;
    const plan::Strips* strips = nullptr;
    if (graph.strips() != nullptr && next_strips < graph.strips()->size()) {
      strips = graph.strips()->Get(next_strips);
    }
    if (strips != nullptr && strips->first_op() == i) {
      ++next_strips;
      std::unique_ptr<Strips> op =
          bind_strips(graph, *strips, views, plan.constants(), target, threads, error);
      step.strips = op.get();
      step.op_count = strips->op_count();
      step.op = std::move(op);
    } else {
      step.op = bind_op(*graph.ops()->Get(i), views, plan.constants(), target, error);
    }
    if (step.op == nullptr) return false;
    i += static_cast<uint32_t>(step.op_count);
    bound->steps.push_back(std::move(step));
  }
  return true;
}

namespace {

/// The same for one size of a plan.
bool find_needs_of_size(const Plan& plan, MemoryNeeds* needs, std::string* error) {
  // Ops look at addresses to see what overlaps; any aligned one does.
  // NOLINTNEXTLINE(performance-no-int-to-ptr): nothing reads through it.
  uint8_t* const nowhere = reinterpret_cast<uint8_t*>(uintptr_t{1} << 20u);
  BoundPlan bound;
  if (!bind_plan(plan, nowhere, 1, false, &bound, error)) return false;
  needs->plan = plan.file_size();
  needs->arena = plan.arena_size();
  for (const plan::Tensor* tensor : *plan.graph().tensors()) {
    const bool copied =
        tensor->place() == plan::Place_Constant && tensor->dtype() == plan::DType_Code;
    if (copied) needs->arena += tensor_bytes(*tensor) + kSlack;
  }
  needs->scratch = bound.scratch_size();
  for (const auto* list : {&plan.inputs(), &plan.outputs()}) {
    for (const TensorInfo& tensor : *list) needs->external += tensor.size;
  }
  return true;
}

}  // namespace

bool find_memory_needs(const Plan& plan, MemoryNeeds* needs, std::string* error) {
  size_t arena = 0;
  size_t copies = 0;
  *needs = {};
  for (size_t i = 0; i < plan.size_count(); ++i) {
    MemoryNeeds own;
    if (!find_needs_of_size(plan.size(i), &own, error)) return false;
    // One arena for all of them, but copies of constants for each.
    arena = std::max(arena, plan.size(i).arena_size());
    copies += own.arena - plan.size(i).arena_size();
    needs->plan = own.plan;
    needs->scratch = std::max(needs->scratch, own.scratch);
    needs->external = std::max(needs->external, own.external);
  }
  needs->arena = arena + copies;
  return true;
}

}  // namespace edgekit
