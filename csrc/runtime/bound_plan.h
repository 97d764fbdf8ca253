#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ops/op.h"
#include "ops/strips.h"
#include "runtime/aligned_bytes.h"
#include "runtime/plan.h"

namespace edgekit {

/// What runs at once: an op of the plan, or several in strips.
struct Step {
  /// Index in Plan::ops(), and how many.
  size_t first_op = 0;
  size_t op_count = 1;
  std::unique_ptr<Op> op;
  /// `op` where there are several, else null.
  const Strips* strips = nullptr;
};

/// The ops of a plan, over memory.
struct BoundPlan {
  /// Where each tensor of the plan begins; what TensorView::data points to. Null for tensors in
  /// strips.
  std::vector<uint8_t*> addresses;
  /// In order of execution.
  std::vector<Step> steps;
  /// Copies of constant codes: in stored form, with 64 readable bytes behind them.
  std::vector<AlignedBytes> constants;

  /// Returns the bytes of scratch that each thread needs.
  size_t scratch_size() const;
};

/// Makes every op of a plan, over an arena of Plan::arena_size() bytes and 64 more, to be run on up
/// to `threads` threads. Returns false and sets `error` where an op's parameters don't fit
/// together.
///
/// With `runs` false the ops can be asked what they need but not be run, the arena is not touched,
/// and the plan may be for another CPU.
bool bind_plan(const Plan& plan, uint8_t* arena, size_t threads, bool runs, BoundPlan* bound,
               std::string* error);

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

/// Finds out what sessions of a plan need, whichever of its sizes they run, on this CPU or another.
/// Errors as bind_plan().
bool find_memory_needs(const Plan& plan, MemoryNeeds* needs, std::string* error);

}  // namespace edgekit
