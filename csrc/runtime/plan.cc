#include "runtime/plan.h"

#include <algorithm>
#include <string_view>

#include "plan_generated.h"
#include "runtime/check_graph.h"
#include "runtime/check_sizes.h"
#include "runtime/op_tensors.h"

namespace edgekit {
namespace {

Shape read_shape(const plan::Tensor& tensor) {
  Shape shape;
  for (const int64_t dim : *tensor.shape()) shape.dims[shape.rank++] = dim;
  return shape;
}

// Metadata "state:INPUT" = "OUTPUT" says that the output of one run is the input of the next.
constexpr std::string_view kStateKey = "state:";

int find_tensor(const std::vector<TensorInfo>& tensors, std::string_view name) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

bool same_kind(const TensorInfo& a, const TensorInfo& b) {
  return a.dtype == b.dtype && a.shape.rank == b.shape.rank &&
         std::equal(a.shape.dims, a.shape.dims + a.shape.rank, b.shape.dims);
}

}  // namespace

std::shared_ptr<const Plan> Plan::open(const char* path, std::string* error) {
  const auto file = std::make_shared<PlanFile>();
  if (!file->open(path, error)) return nullptr;
  const std::shared_ptr<Plan> plan(new Plan(file));
  std::string reason;
  if (!plan->check(&reason)) {
    *error = std::string(path) + ": " + reason;
    return nullptr;
  }
  return plan;
}

std::shared_ptr<const Plan> Plan::from_memory(const void* data, size_t size, std::string* error) {
  const auto file = std::make_shared<PlanFile>();
  if (!file->copy(data, size, error)) return nullptr;
  const std::shared_ptr<Plan> plan(new Plan(file));
  return plan->check(error) ? plan : nullptr;
}

bool Plan::check(std::string* error) {
  const plan::Plan* const root =
      check_graph(file_->graph(), file_->graph_size(), file_->constants_size(), error);
  if (root == nullptr || !read(*root, error)) return false;
  if (root->sizes() == nullptr) return true;
  std::vector<const plan::Plan*> graphs = {root};
  for (const plan::Plan* size : *root->sizes()) graphs.push_back(size);
  for (const plan::Plan* graph : graphs) {
    std::unique_ptr<Plan> size(new Plan(file_));
    if (!size->read(*graph, error)) return false;
    sizes_.push_back(std::move(size));
  }
  return check_sizes(*this, error);
}

bool Plan::read(const plan::Plan& graph, std::string* error) {
  graph_ = &graph;
  parse_isa(graph_->isa()->c_str(), &isa_);
  for (const uint32_t index : *graph_->inputs()) inputs_.push_back(describe(index));
  for (const uint32_t index : *graph_->outputs()) outputs_.push_back(describe(index));
  if (!read_states(error)) return false;
  if (graph_->cores() != nullptr) cores_.assign(graph_->cores()->begin(), graph_->cores()->end());
  for (const plan::Op* op : *graph_->ops()) {
    ops_.push_back({op->name()->c_str(), plan::EnumNameOpParams(op->params_type()), op_kernel(*op),
                    describe(op_tensors(*op).write)});
  }
  return true;
}

bool Plan::read_states(std::string* error) {
  state_outputs_.assign(inputs_.size(), -1);
  for (size_t i = 0; i < metadata_size(); ++i) {
    const std::string_view key = metadata_key(i);
    if (key.substr(0, kStateKey.size()) != kStateKey) continue;
    const int input = find_tensor(inputs_, key.substr(kStateKey.size()));
    const int output = find_tensor(outputs_, metadata_value(i));
    if (input < 0 || output < 0 || state_outputs_[static_cast<size_t>(input)] >= 0 ||
        !same_kind(inputs_[static_cast<size_t>(input)], outputs_[static_cast<size_t>(output)])) {
      *error =
          "the plan is invalid: '" + std::string(key) + "' joins no output to an input like it";
      return false;
    }
    state_outputs_[static_cast<size_t>(input)] = output;
  }
  return true;
}

bool Plan::runs_here(std::string* error) const {
  if (isa_built(isa_) && isa_supported(isa_)) return true;
  const char* ignored = nullptr;
  *error = std::string("the plan needs ") + isa_info(isa_).name + ", and this " +
           (isa_supported(isa_) ? "build of edgekit" : "CPU") + " has " +
           isa_info(best_isa(&ignored)).name + " at most: deploy the model for this machine";
  return false;
}

TensorInfo Plan::describe(size_t tensor) const {
  const plan::Tensor& info = *graph_->tensors()->Get(static_cast<uint32_t>(tensor));
  return {info.name()->c_str(), static_cast<DType>(info.dtype()),
          read_shape(info),     tensor_bytes(info),
          info.scale(),         info.zero_point()};
}

const char* Plan::target() const { return graph_->target()->c_str(); }
const char* Plan::source_digest() const { return graph_->source_digest()->c_str(); }
const char* Plan::producer() const { return graph_->producer()->c_str(); }
size_t Plan::arena_size() const { return static_cast<size_t>(graph_->arena_size()); }
size_t Plan::arena_lower_bound() const { return static_cast<size_t>(graph_->arena_lower_bound()); }

size_t Plan::metadata_size() const {
  return graph_->metadata() == nullptr ? 0 : graph_->metadata()->size();
}

const char* Plan::metadata_key(size_t i) const {
  return graph_->metadata()->Get(static_cast<uint32_t>(i))->key()->c_str();
}

const char* Plan::metadata_value(size_t i) const {
  return graph_->metadata()->Get(static_cast<uint32_t>(i))->value()->c_str();
}

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kCode:
      return "int8";
    case DType::kInt32:
      return "int32";
    case DType::kFloat32:
      return "float32";
    case DType::kInt64:
      return "int64";
    case DType::kUInt8:
      return "uint8";
    case DType::kBool:
      return "bool";
  }
  return "";
}

std::string format_shape(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.rank; ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape.dims[i]);
  }
  return text + "]";
}

}  // namespace edgekit
