#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ops/op.h"
#include "runtime/aligned_bytes.h"
#include "runtime/plan.h"

namespace edgekit {

/// The ops of a plan, over memory.
struct BoundPlan {
  /// Where each tensor of the plan begins; what TensorView::data points to.
  std::vector<uint8_t*> addresses;
  /// In order of execution.
  std::vector<std::unique_ptr<Op>> ops;
  /// Copies of constant codes: in stored form, with 64 readable bytes behind them.
  std::vector<AlignedBytes> constants;

  /// Returns the bytes of scratch that each thread needs.
  size_t scratch_size() const;
};

/// Makes every op of a plan, over an arena of Plan::arena_size() bytes and 64 more. Returns false
/// and sets `error` where an op's parameters don't fit together.
///
/// With `runs` false the ops can be asked what they need but not be run, the arena is not touched,
/// and the plan may be for another CPU.
bool bind_plan(const Plan& plan, uint8_t* arena, bool runs, BoundPlan* bound, std::string* error);

/// The bytes that a session holds, beside its program.
struct MemoryNeeds {
  /// The mapped file.
  size_t plan = 0;
  /// Activations and constant codes.
  size_t arena = 0;
  /// Working memory of one thread.
  size_t scratch = 0;
  /// Inputs and outputs, which are the caller's.
  size_t external = 0;

  size_t total(size_t threads) const { return plan + arena + threads * scratch + external; }
};

/// Finds out what sessions of a plan need, on this CPU or another. Errors as bind_plan().
bool find_memory_needs(const Plan& plan, MemoryNeeds* needs, std::string* error);

}  // namespace edgekit
