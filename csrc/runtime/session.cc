#include "runtime/session.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "plan_generated.h"
#include "runtime/check_graph.h"
#include "runtime/fork_cost.h"
#include "runtime/op_tensors.h"
#include "trust/sha256.h"

namespace edgekit {
namespace {

// What kernels may read behind a tensor of the arena.
constexpr size_t kSlack = 64;

struct Loop {
  const Op* op;
  uint8_t* scratch;
  size_t scratch_stride;
};

void run_piece(const void* context, size_t begin, size_t end, size_t thread) {
  const auto& loop = *static_cast<const Loop*>(context);
  loop.op->run(begin, end, loop.scratch + thread * loop.scratch_stride);
}

// Returns zeros, or null where there can't be so many: an allocator may promise more than there is,
// and touching it would end the process.
AlignedBytes make_present_bytes(size_t size) {
  const auto pages = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES));
  const auto page_size = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return size / page_size < pages ? make_aligned_bytes(size) : nullptr;
}

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double median(std::vector<double>* values) {
  std::sort(values->begin(), values->end());
  const size_t n = values->size();
  return ((*values)[(n - 1) / 2] + (*values)[n / 2]) / 2;
}

// Hashes what each op wrote.
class Hasher : public Session::Observer {
 public:
  Hasher(const Plan& plan, std::vector<std::string>* digests) : plan_(plan), digests_(digests) {}

  void see(size_t op, const void* values) override {
    Sha256 hash;
    hash.update(values, plan_.ops()[op].output.size);
    char hex[65];
    hash.finish_hex(hex);
    digests_->push_back(hex);
  }

 private:
  const Plan& plan_;
  std::vector<std::string>* const digests_;
};

// Puts together the tensors of which only some rows exist at a time.
class RowCollector : public StripsObserver {
 public:
  RowCollector(const Plan& plan, const Step& step) {
    for (size_t i = 0; i + 1 < step.op_count; ++i) {
      const TensorInfo& output = plan.ops()[step.first_op + i].output;
      tensors_.emplace_back(output.size);
      row_sizes_.push_back(output.size /
                           static_cast<size_t>(output.shape.dims[0] * output.shape.dims[1]));
    }
  }

  void see(size_t index, size_t begin, size_t end, const uint8_t* rows) override {
    if (index == tensors_.size()) return;
    std::copy_n(rows, (end - begin) * row_sizes_[index],
                tensors_[index].data() + begin * row_sizes_[index]);
  }

  void take(size_t index, std::vector<uint8_t>* values) { values->swap(tensors_[index]); }

 private:
  std::vector<std::vector<uint8_t>> tensors_;
  std::vector<size_t> row_sizes_;
};

// Measures what part of the time each op of a chain takes.
class StripsTimer : public StripsObserver {
 public:
  explicit StripsTimer(size_t ops) : seconds_(ops), last_(now()) {}

  void see(size_t index, size_t, size_t, const uint8_t*) override {
    const double time = now();
    seconds_[index] += time - last_;
    last_ = time;
  }

  std::vector<double> shares() const {
    double sum = 0;
    for (const double seconds : seconds_) sum += seconds;
    std::vector<double> shares;
    for (const double seconds : seconds_) shares.push_back(sum > 0 ? seconds / sum : 0);
    return shares;
  }

 private:
  std::vector<double> seconds_;
  double last_;
};

}  // namespace

std::unique_ptr<Session> Session::create(std::shared_ptr<const Plan> plan, const Threads& threads,
                                         Failure* failure) {
  std::unique_ptr<Session> session(new Session);
  session->plan_ = std::move(plan);
  std::string* const error = &failure->message;
  failure->bad_plan = true;
  if (!session->plan_->runs_here(error)) return nullptr;
  failure->bad_plan = false;
  session->pool_ = ThreadPool::create(threads, error);
  if (session->pool_ == nullptr || !session->make_arena(error)) return nullptr;
  failure->bad_plan = true;
  if (!session->bind(error)) return nullptr;
  failure->bad_plan = false;
  if (!session->make_scratch(error) || !session->make_states(error)) return nullptr;
  return session;
}

bool Session::make_arena(std::string* error) {
  size_t size = 0;
  for (size_t i = 0; i < plan_->size_count(); ++i) {
    size = std::max(size, plan_->size(i).arena_size());
  }
  arena_ = make_present_bytes(size + kSlack);
  if (arena_ != nullptr) return true;
  *error = "no memory for the plan's arena of " + std::to_string(size) + " bytes";
  return false;
}

bool Session::make_scratch(std::string* error) {
  for (const Network& network : networks_) {
    scratch_stride_ = std::max(scratch_stride_, network.bound.scratch_size());
  }
  size_t size;
  if (!__builtin_mul_overflow(scratch_stride_, threads(), &size)) {
    scratch_ = make_present_bytes(size);
  }
  if (scratch_ != nullptr) return true;
  *error = "no memory for the scratch of " + std::to_string(threads()) + " threads, " +
           std::to_string(scratch_stride_) + " bytes each";
  return false;
}

bool Session::make_states(std::string* error) {
  for (size_t i = 0; i < plan_->inputs().size(); ++i) {
    states_.emplace_back();
    if (plan_->state_outputs()[i] < 0) continue;
    states_.back() = make_present_bytes(plan_->inputs()[i].size);
    if (states_.back() == nullptr) {
      *error = std::string("no memory for the state '") + plan_->inputs()[i].name + "'";
      return false;
    }
  }
  return true;
}

void Session::reset() {
  for (size_t i = 0; i < states_.size(); ++i) {
    if (states_[i] != nullptr) std::memset(states_[i].get(), 0, plan_->inputs()[i].size);
  }
}

// Copies the outputs of a run that are states of the next.
void Session::keep_states() {
  for (size_t i = 0; i < states_.size(); ++i) {
    if (states_[i] == nullptr) continue;
    const auto output = static_cast<uint32_t>(plan().state_outputs()[i]);
    std::memcpy(states_[i].get(), network_->bound.addresses[plan().graph().outputs()->Get(output)],
                plan().inputs()[i].size);
  }
}

bool Session::bind(std::string* error) {
  for (size_t i = 0; i < plan_->size_count(); ++i) {
    Network network = {&plan_->size(i), {}, {}};
    if (!bind_plan(*network.plan, arena_.get(), threads(), true, &network.bound, error)) {
      return false;
    }
    for (const Step& step : network.bound.steps) {
      const auto first = static_cast<uint32_t>(step.first_op);
      const plan::OpParams kind = network.plan->graph().ops()->Get(first)->params_type();
      network.forks.push_back(threads() > 1 &&
                              step.op->cost() >= fork_cost(kind, network.plan->isa()));
    }
    networks_.push_back(std::move(network));
  }
  set_size(0);
  return true;
}

void Session::point_inputs(const void* const* inputs, size_t batch) {
  for (uint32_t i = 0; i < plan().inputs().size(); ++i) {
    uint8_t*& address = network_->bound.addresses[plan().graph().inputs()->Get(i)];
    if (inputs[i] == nullptr) {
      address = states_[i].get();
      continue;
    }
    // Ops only read it: the address of a tensor has one type, whoever owns it.
    address = static_cast<uint8_t*>(const_cast<void*>(inputs[i])) + batch * plan().inputs()[i].size;
  }
}

void Session::point_outputs(void* const* outputs, size_t batch) {
  for (uint32_t i = 0; i < plan().outputs().size(); ++i) {
    network_->bound.addresses[plan().graph().outputs()->Get(i)] =
        static_cast<uint8_t*>(outputs[i]) + batch * plan().outputs()[i].size;
  }
}

void Session::run_step(size_t index) {
  const Op& op = *network_->bound.steps[index].op;
  const size_t units = op.units();
  if (units == 0) return;
  if (!network_->forks[index]) {
    op.run(0, units, scratch_.get());
    return;
  }
  const Loop loop = {&op, scratch_.get(), scratch_stride_};
  pool_->run(units, op.granule(), run_piece, &loop);
}

void Session::run(const void* const* inputs, void* const* outputs, size_t batches) {
  for (size_t batch = 0; batch < batches; ++batch) {
    point_inputs(inputs, batch);
    point_outputs(outputs, batch);
    for (size_t i = 0; i < network_->bound.steps.size(); ++i) run_step(i);
    keep_states();
  }
}

// Gives the network outputs of its own, for runs whose outputs nobody asked for.
bool Session::make_outputs(std::vector<AlignedBytes>* owned, std::string* error) {
  std::vector<void*> outputs;
  for (const TensorInfo& output : plan().outputs()) {
    owned->push_back(make_aligned_bytes(output.size));
    outputs.push_back(owned->back().get());
    if (outputs.back() == nullptr) {
      *error = std::string("no memory for output '") + output.name + "'";
      return false;
    }
  }
  point_outputs(outputs.data(), 0);
  return true;
}

bool Session::trace(const void* const* inputs, Observer* observer, std::string* error) {
  std::vector<AlignedBytes> outputs;
  if (!make_outputs(&outputs, error)) return false;
  point_inputs(inputs, 0);
  const bool shifted = isa_info(plan().isa()).storage == Storage::kU8;
  std::vector<uint8_t> values;
  for (size_t i = 0; i < network_->bound.steps.size(); ++i) {
    const Step& step = network_->bound.steps[i];
    RowCollector inner(plan(), step);
    if (step.strips != nullptr) {
      step.strips->run_observed(scratch_.get(), &inner);
    } else {
      run_step(i);
    }
    for (size_t op = step.first_op; op < step.first_op + step.op_count; ++op) {
      const bool last = op + 1 == step.first_op + step.op_count;
      const plan::Op& table = *plan().graph().ops()->Get(static_cast<uint32_t>(op));
      if (last) {
        gather(op_tensors(table).write, &values);
      } else {
        inner.take(op - step.first_op, &values);
      }
      const TensorInfo& output = plan().ops()[op].output;
      const bool is_callers =
          plan().graph().tensors()->Get(op_tensors(table).write)->place() == plan::Place_Output;
      if (shifted && !is_callers && output.dtype == DType::kCode) {
        for (uint8_t& code : values) code ^= 0x80;
      }
      observer->see(op, values.data());
    }
  }
  return true;
}

// Copies a tensor's values, without the gaps that there may be between its pixels.
void Session::gather(uint32_t tensor, std::vector<uint8_t>* values) const {
  const plan::Tensor& info = *plan().graph().tensors()->Get(tensor);
  values->resize(tensor_bytes(info));
  const uint8_t* from = network_->bound.addresses[tensor];
  if (info.pixel_stride() == 0) {
    std::memcpy(values->data(), from, values->size());
    return;
  }
  const auto last = static_cast<size_t>(info.shape()->Get(info.shape()->size() - 1));
  const size_t pixel = last * dtype_size(static_cast<DType>(info.dtype()));
  for (size_t i = 0; i < values->size(); i += pixel, from += info.pixel_stride()) {
    std::memcpy(values->data() + i, from, pixel);
  }
}

bool Session::digests(const void* const* inputs, std::vector<std::string>* digests,
                      std::string* error) {
  digests->clear();
  Hasher hasher(plan(), digests);
  return trace(inputs, &hasher, error);
}

bool Session::profile(const void* const* inputs, size_t repeats, std::vector<double>* seconds,
                      std::string* error) {
  std::vector<AlignedBytes> outputs;
  if (!make_outputs(&outputs, error)) return false;
  point_inputs(inputs, 0);
  repeats = std::max<size_t>(repeats, 1);
  // Ops in strips take turns; they share their time as they do on one thread, while what they read
  // is still there.
  std::vector<std::vector<double>> shares;
  for (size_t i = 0; i < network_->bound.steps.size(); ++i) {
    const Step& step = network_->bound.steps[i];
    shares.emplace_back(1, 1.0);
    if (step.strips == nullptr) {
      run_step(i);
      continue;
    }
    StripsTimer timer(step.op_count);
    step.strips->run_observed(scratch_.get(), &timer);
    shares.back() = timer.shares();
  }
  std::vector<std::vector<double>> samples(network_->bound.steps.size(),
                                           std::vector<double>(repeats));
  for (size_t repeat = 0; repeat < repeats; ++repeat) {
    double begin = now();
    for (size_t i = 0; i < network_->bound.steps.size(); ++i) {
      run_step(i);
      const double end = now();
      samples[i][repeat] = end - begin;
      begin = end;
    }
  }
  seconds->clear();
  for (size_t i = 0; i < network_->bound.steps.size(); ++i) {
    const double time = median(&samples[i]);
    for (const double share : shares[i]) seconds->push_back(time * share);
  }
  return true;
}

}  // namespace edgekit
