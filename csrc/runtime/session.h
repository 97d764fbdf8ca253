#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/aligned_bytes.h"
#include "runtime/bound_plan.h"
#include "runtime/plan.h"
#include "runtime/thread_pool.h"

namespace edgekit {

/// Why a session can't be made.
struct Failure {
  /// Whether the plan is to blame; otherwise memory or threads are not to be had.
  bool bad_plan = false;
  std::string message;
};

/// Memory and threads to run a plan with.
///
/// A session may be used from one thread at a time; sessions of one plan are independent. All that
/// a run needs is allocated and touched by create(). The sizes of a plan share it: one arena, the
/// largest that a size needs, and the states, which go on when the size changes.
class Session {
 public:
  /// Sees the output of each op while a network runs.
  class Observer {
   public:
    virtual ~Observer() = default;
    /// `values` holds the output of op `op` (an index of Plan::ops()), codes as int8, and lives
    /// until this returns.
    virtual void see(size_t op, const void* values) = 0;
  };

  /// Makes a session on `threads`; Plan::cores() is where the plan's target wants them. Returns
  /// null and sets `failure` when an op's parameters don't fit together, the plan is for another
  /// CPU, or memory or threads are not to be had.
  static std::unique_ptr<Session> create(std::shared_ptr<const Plan> plan, const Threads& threads,
                                         Failure* failure);

  /// The plan of the size that runs: the first one's until set_size() says otherwise.
  const Plan& plan() const { return *network_->plan; }

  size_t size_count() const { return networks_.size(); }

  /// Chooses what runs from now on: an index of Plan::size() of the plan that create() was given.
  void set_size(size_t index) { network_ = &networks_[index]; }

  /// Returns the number of threads that run: no more than were asked for, see Threads.
  size_t threads() const { return pool_->size(); }

  /// Returns which thread could not be pinned, and why, or "". It runs all the same.
  const std::string& pinning_problem() const { return pool_->pinning_problem(); }

  /// Runs the network `batches` times over, on consecutive parts of the caller's memory. The input
  /// of a state (Plan::state_outputs()) may be null: then each run takes what the run before it
  /// gave, the first one zeros.
  ///
  /// `inputs[i]` and `outputs[i]` are `batches * size` bytes of Plan::inputs()[i] and outputs()[i],
  /// aligned to their elements, the model's own order; no output overlaps anything else. Allocates
  /// nothing and can't fail.
  void run(const void* const* inputs, void* const* outputs, size_t batches);

  /// Makes all states zeros, as in a new session. Other runs than run() leave them as they are.
  void reset();

  /// Runs the network once and shows `observer` what each op wrote. Returns false and sets `error`
  /// when there is no memory for it.
  bool trace(const void* const* inputs, Observer* observer, std::string* error);

  /// Runs the network once and writes the SHA-256 of what each op wrote, as trace() shows it, in
  /// hexadecimal. Errors as trace().
  bool digests(const void* const* inputs, std::vector<std::string>* digests, std::string* error);

  /// Runs the network `repeats` times, at least once, and writes each op's median seconds. Errors
  /// as trace().
  bool profile(const void* const* inputs, size_t repeats, std::vector<double>* seconds,
               std::string* error);

 private:
  /// One size of the network.
  struct Network {
    const Plan* plan;
    BoundPlan bound;
    /// Whether each step is worth sharing between the threads.
    std::vector<bool> forks;
  };

  Session() = default;
  bool make_arena(std::string* error);
  bool bind(std::string* error);
  bool make_scratch(std::string* error);
  bool make_states(std::string* error);
  void keep_states();
  bool make_outputs(std::vector<AlignedBytes>* owned, std::string* error);
  void point_inputs(const void* const* inputs, size_t batch);
  void point_outputs(void* const* outputs, size_t batch);
  void run_step(size_t index);
  void gather(uint32_t tensor, std::vector<uint8_t>* values) const;

  std::shared_ptr<const Plan> plan_;
  std::unique_ptr<ThreadPool> pool_;
  AlignedBytes arena_;
  AlignedBytes scratch_;
  size_t scratch_stride_ = 0;
  /// Of each input that is a state, what the last run gave; null for the others.
  std::vector<AlignedBytes> states_;
  /// In the order of Plan::size(), and the one that runs.
  std::vector<Network> networks_;
  Network* network_ = nullptr;
};

}  // namespace edgekit
