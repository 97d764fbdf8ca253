#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "isa/isa.h"
#include "ops/tensor.h"
#include "runtime/plan_file.h"

namespace edgekit {

namespace plan {
struct Plan;
}

/// What is to be known of a tensor from outside. Text lives as long as the plan.
struct TensorInfo {
  const char* name;
  DType dtype;
  Shape shape;
  /// Bytes of all elements.
  size_t size;
  /// The grid of codes; without meaning for other numbers.
  float scale = 1;
  int32_t zero_point = 0;
};

/// What is to be known of an op from outside.
struct OpInfo {
  /// The node of the source model.
  const char* name;
  /// The table of plan.fbs, such as "Conv".
  const char* kind;
  /// The row of a kernels.inc, or "".
  const char* kernel;
  TensorInfo output;
};

/// A network compiled for one instruction set, checked and read-only. Sessions on any threads share
/// it. A plan for another CPU can be opened and looked at; a session refuses it.
///
/// A file may hold the network for several sizes of its inputs. Each is a Plan, over one copy of
/// the weights; the first is the one that open() returns, and size() gives all of them.
class Plan {
 public:
  /// Maps the plan at `path`; see PlanFile::open() for what may happen to the file meanwhile.
  /// Returns null and sets `error` when it can't be read or is damaged.
  static std::shared_ptr<const Plan> open(const char* path, std::string* error);

  /// The same from a copy of `size` bytes.
  static std::shared_ptr<const Plan> from_memory(const void* data, size_t size, std::string* error);

  Isa isa() const { return isa_; }
  const char* target() const;
  const char* source_digest() const;
  const char* producer() const;
  /// Bytes of the file.
  size_t file_size() const { return file_->size(); }
  const uint8_t* file_bytes() const { return file_->bytes(); }
  size_t arena_size() const;
  size_t arena_lower_bound() const;

  /// Where the target's profile wants threads to run: what Threads takes.
  const std::vector<uint32_t>& cores() const { return cores_; }

  size_t metadata_size() const;
  const char* metadata_key(size_t i) const;
  const char* metadata_value(size_t i) const;

  const std::vector<TensorInfo>& inputs() const { return inputs_; }
  const std::vector<TensorInfo>& outputs() const { return outputs_; }
  /// For each input: the index of the output that a session hands on to it, as its state, or -1.
  /// The two have one type and shape.
  const std::vector<int>& state_outputs() const { return state_outputs_; }
  /// In order of execution.
  const std::vector<OpInfo>& ops() const { return ops_; }

  /// How many sizes of inputs there are. All have the same inputs and outputs but for their
  /// dimensions, the same states, and different shapes of inputs.
  size_t size_count() const { return sizes_.empty() ? 1 : sizes_.size(); }
  /// The plan of one size, which has no other, as long as this one lives. What else this one says
  /// is of the first.
  const Plan& size(size_t i) const { return sizes_.empty() ? *this : *sizes_[i]; }

  /// Returns whether this CPU and build can run it; if not, sets `error`.
  bool runs_here(std::string* error) const;

  /// The verified graph and the constants that its blobs point into.
  const plan::Plan& graph() const { return *graph_; }
  const uint8_t* constants() const { return file_->constants(); }

 private:
  explicit Plan(std::shared_ptr<const PlanFile> file) : file_(std::move(file)) {}
  bool check(std::string* error);
  bool read(const plan::Plan& graph, std::string* error);
  bool read_states(std::string* error);
  TensorInfo describe(size_t tensor) const;

  std::shared_ptr<const PlanFile> file_;
  const plan::Plan* graph_ = nullptr;
  Isa isa_ = Isa::kGeneric;
  std::vector<TensorInfo> inputs_;
  std::vector<TensorInfo> outputs_;
  std::vector<int> state_outputs_;
  std::vector<OpInfo> ops_;
  std::vector<uint32_t> cores_;
  std::vector<std::unique_ptr<const Plan>> sizes_;
};

/// Returns the name of the element type in numpy's terms; codes are "int8".
const char* dtype_name(DType dtype);

/// Returns `shape` as "[1, 3, 224, 224]".
std::string format_shape(const Shape& shape);

}  // namespace edgekit
