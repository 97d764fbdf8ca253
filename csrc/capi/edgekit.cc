#include "capi/edgekit.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "isa/isa.h"
#include "runtime/batches.h"
#include "runtime/linked_parts.h"
#include "runtime/plan.h"
#include "runtime/session.h"

struct edgekit_plan {
  std::shared_ptr<const edgekit::Plan> plan;
};

struct edgekit_session {
  std::unique_ptr<edgekit::Session> session;
};

namespace {

// Fixed, so that reporting a lack of memory needs none.
thread_local char last_error[512] = "";

edgekit_status fail(edgekit_status status, const char* message) {
  std::strncpy(last_error, message, sizeof last_error - 1);
  return status;
}

// Runs `body`, which returns a status, and lets no exception pass.
template <typename Body>
edgekit_status guard(const Body& body) {
  try {
    return body();
  } catch (const std::exception& error) {
    return fail(EDGEKIT_NO_RESOURCES, error.what());
  }
}

edgekit_status keep(std::shared_ptr<const edgekit::Plan> opened, const std::string& error,
                    edgekit_plan** plan) {
  if (opened == nullptr) return fail(EDGEKIT_BAD_PLAN, error.c_str());
  *plan = new edgekit_plan{std::move(opened)};
  return EDGEKIT_OK;
}

edgekit_tensor_info describe(const edgekit::TensorInfo& tensor) {
  static_assert(edgekit::kMaxRank == sizeof(edgekit_tensor_info::shape) / sizeof(int64_t));
  edgekit_tensor_info info = {};
  info.name = tensor.name;
  info.dtype = static_cast<edgekit_dtype>(tensor.dtype);
  info.rank = tensor.shape.rank;
  std::memcpy(info.shape, tensor.shape.dims, sizeof info.shape);
  info.size = tensor.size;
  return info;
}

edgekit_status describe_at(const std::vector<edgekit::TensorInfo>& tensors, size_t index,
                           edgekit_tensor_info* info) {
  if (index >= tensors.size()) return fail(EDGEKIT_BAD_ARGUMENT, "there is no such tensor");
  *info = describe(tensors[index]);
  return EDGEKIT_OK;
}

bool has_null(const void* const* pointers, size_t count) {
  return (count > 0 && pointers == nullptr) ||
         std::find(pointers, pointers + count, nullptr) != pointers + count;
}

edgekit_status check_inputs(const edgekit_session* session, const void* const* inputs,
                            size_t count) {
  if (session == nullptr) return fail(EDGEKIT_BAD_ARGUMENT, "the session is null");
  const std::vector<int>& states = session->session->plan().state_outputs();
  const size_t expected = states.size();
  bool complete = count == expected && (count == 0 || inputs != nullptr);
  for (size_t i = 0; complete && i < count; ++i) {
    complete = inputs[i] != nullptr || states[i] >= 0;
  }
  if (complete) return EDGEKIT_OK;
  const std::string message = "the plan has " + std::to_string(expected) + " inputs: give each";
  return fail(EDGEKIT_BAD_ARGUMENT, message.c_str());
}

edgekit_status check_ops(const edgekit_session* session, const void* results, size_t count) {
  const size_t expected = session->session->plan().ops().size();
  if (results != nullptr && count == expected) return EDGEKIT_OK;
  const std::string message =
      "the plan has " + std::to_string(expected) + " ops: give memory for as many results";
  return fail(EDGEKIT_BAD_ARGUMENT, message.c_str());
}

}  // namespace

extern "C" {

const char* edgekit_version(void) { return EDGEKIT_VERSION; }

const char* edgekit_last_error(void) { return last_error; }

size_t edgekit_isa_count(void) {
  size_t count;
  edgekit::isa_table(&count);
  return count;
}

const char* edgekit_isa_name(size_t index) {
  size_t count;
  const edgekit::IsaInfo* table = edgekit::isa_table(&count);
  return index < count ? table[index].name : nullptr;
}

int edgekit_isa_runs_here(size_t index) {
  size_t count;
  const edgekit::IsaInfo* table = edgekit::isa_table(&count);
  return static_cast<int>(index < count && edgekit::isa_built(table[index].isa) &&
                          edgekit::isa_supported(table[index].isa));
}

edgekit_status edgekit_plan_open(const char* path, edgekit_plan** plan) {
  return guard([&] {
    if (path == nullptr || plan == nullptr) return fail(EDGEKIT_BAD_ARGUMENT, "null pointer");
    std::string error;
    return keep(edgekit::Plan::open(path, &error), error, plan);
  });
}

edgekit_status edgekit_plan_from_memory(const void* data, size_t size, edgekit_plan** plan) {
  return guard([&] {
    if (data == nullptr || plan == nullptr) return fail(EDGEKIT_BAD_ARGUMENT, "null pointer");
    std::string error;
    return keep(edgekit::Plan::from_memory(data, size, &error), error, plan);
  });
}

void edgekit_plan_close(edgekit_plan* plan) { delete plan; }

const char* edgekit_plan_isa(const edgekit_plan* plan) {
  return plan == nullptr ? nullptr : edgekit::isa_info(plan->plan->isa()).name;
}

const char* edgekit_plan_target(const edgekit_plan* plan) {
  return plan == nullptr ? nullptr : plan->plan->target();
}

const char* edgekit_plan_source_digest(const edgekit_plan* plan) {
  return plan == nullptr ? nullptr : plan->plan->source_digest();
}

const char* edgekit_plan_producer(const edgekit_plan* plan) {
  return plan == nullptr ? nullptr : plan->plan->producer();
}

size_t edgekit_plan_input_count(const edgekit_plan* plan) {
  return plan == nullptr ? 0 : plan->plan->inputs().size();
}

size_t edgekit_plan_output_count(const edgekit_plan* plan) {
  return plan == nullptr ? 0 : plan->plan->outputs().size();
}

size_t edgekit_plan_op_count(const edgekit_plan* plan) {
  return plan == nullptr ? 0 : plan->plan->ops().size();
}

edgekit_status edgekit_plan_input(const edgekit_plan* plan, size_t index,
                                  edgekit_tensor_info* info) {
  if (plan == nullptr || info == nullptr) return fail(EDGEKIT_BAD_ARGUMENT, "null pointer");
  return describe_at(plan->plan->inputs(), index, info);
}

edgekit_status edgekit_plan_output(const edgekit_plan* plan, size_t index,
                                   edgekit_tensor_info* info) {
  if (plan == nullptr || info == nullptr) return fail(EDGEKIT_BAD_ARGUMENT, "null pointer");
  return describe_at(plan->plan->outputs(), index, info);
}

edgekit_status edgekit_plan_op(const edgekit_plan* plan, size_t index, edgekit_op_info* info) {
  if (plan == nullptr || info == nullptr) return fail(EDGEKIT_BAD_ARGUMENT, "null pointer");
  if (index >= plan->plan->ops().size()) {
    return fail(EDGEKIT_BAD_ARGUMENT, "there is no such op");
  }
  const edgekit::OpInfo& op = plan->plan->ops()[index];
  *info = {op.name, op.kind, op.kernel, describe(op.output)};
  return EDGEKIT_OK;
}

size_t edgekit_plan_size_count(const edgekit_plan* plan) {
  return plan == nullptr ? 0 : plan->plan->size_count();
}

edgekit_status edgekit_plan_size(const edgekit_plan* plan, size_t index, edgekit_plan** size) {
  return guard([&] {
    if (plan == nullptr || size == nullptr) return fail(EDGEKIT_BAD_ARGUMENT, "null pointer");
    if (index >= plan->plan->size_count()) {
      return fail(EDGEKIT_BAD_ARGUMENT, "there is no such size");
    }
    *size = new edgekit_plan{
        std::shared_ptr<const edgekit::Plan>(plan->plan, &plan->plan->size(index))};
    return EDGEKIT_OK;
  });
}

edgekit_status edgekit_plan_find_size(const edgekit_plan* plan, const edgekit_tensor_info* inputs,
                                      size_t input_count, size_t* index, size_t* batches) {
  return guard([&] {
    if (plan == nullptr || inputs == nullptr || index == nullptr || batches == nullptr) {
      return fail(EDGEKIT_BAD_ARGUMENT, "null pointer");
    }
    const std::vector<edgekit::TensorInfo>& wanted = plan->plan->inputs();
    if (input_count != wanted.size()) {
      const std::string message =
          "the plan has " + std::to_string(wanted.size()) + " inputs: give each";
      return fail(EDGEKIT_BAD_ARGUMENT, message.c_str());
    }
    std::vector<std::optional<edgekit::Shape>> shapes;
    for (size_t i = 0; i < input_count; ++i) {
      shapes.emplace_back();
      if (inputs[i].rank == 0 &&
          (wanted[i].shape.rank == 0 || plan->plan->state_outputs()[i] >= 0)) {
        continue;
      }
      if (inputs[i].rank > edgekit::kMaxRank) {
        return fail(EDGEKIT_BAD_ARGUMENT, "an input has too many dimensions");
      }
      shapes.back().emplace();
      shapes.back()->rank = inputs[i].rank;
      std::copy_n(inputs[i].shape, inputs[i].rank, shapes.back()->dims);
    }
    std::string error;
    size_t found = 0;
    const size_t runs = edgekit::find_size(*plan->plan, shapes, &found, &error);
    if (runs == 0) return fail(EDGEKIT_BAD_ARGUMENT, error.c_str());
    *index = found;
    *batches = runs;
    return EDGEKIT_OK;
  });
}

int edgekit_plan_state_output(const edgekit_plan* plan, size_t index) {
  if (plan == nullptr || index >= plan->plan->state_outputs().size()) return -1;
  return plan->plan->state_outputs()[index];
}

size_t edgekit_plan_core_count(const edgekit_plan* plan) {
  return plan == nullptr ? 0 : plan->plan->cores().size();
}

uint32_t edgekit_plan_core(const edgekit_plan* plan, size_t index) {
  return index < edgekit_plan_core_count(plan) ? plan->plan->cores()[index] : 0;
}

edgekit_status edgekit_session_create(const edgekit_plan* plan, size_t threads,
                                      edgekit_session** session) {
  return guard([&] {
    if (plan == nullptr || session == nullptr) {
      return fail(EDGEKIT_BAD_ARGUMENT, "null pointer");
    }
    if (threads < 1 || threads > edgekit::ThreadPool::kMaxThreads) {
      return fail(EDGEKIT_BAD_ARGUMENT, "the number of threads is out of range");
    }
    edgekit::Failure failure;
    auto created = edgekit::Session::create(plan->plan, {threads, plan->plan->cores()}, &failure);
    if (created == nullptr) {
      return fail(failure.bad_plan ? EDGEKIT_BAD_PLAN : EDGEKIT_NO_RESOURCES,
                  failure.message.c_str());
    }
    *session = new edgekit_session{std::move(created)};
    return EDGEKIT_OK;
  });
}

const char* edgekit_session_pinning_problem(const edgekit_session* session) {
  if (session == nullptr || session->session->pinning_problem().empty()) return nullptr;
  return session->session->pinning_problem().c_str();
}

void edgekit_session_destroy(edgekit_session* session) { delete session; }

edgekit_status edgekit_session_set_size(edgekit_session* session, size_t index) {
  if (session == nullptr) return fail(EDGEKIT_BAD_ARGUMENT, "the session is null");
  if (index >= session->session->size_count()) {
    return fail(EDGEKIT_BAD_ARGUMENT, "there is no such size");
  }
  session->session->set_size(index);
  return EDGEKIT_OK;
}

edgekit_status edgekit_session_run(edgekit_session* session, const void* const* inputs,
                                   size_t input_count, void* const* outputs, size_t output_count,
                                   size_t batches) {
  return guard([&] {
    if (const auto status = check_inputs(session, inputs, input_count); status != EDGEKIT_OK) {
      return status;
    }
    const size_t expected = session->session->plan().outputs().size();
    if (output_count != expected || has_null(outputs, output_count)) {
      const std::string message =
          "the plan has " + std::to_string(expected) + " outputs: give memory for each";
      return fail(EDGEKIT_BAD_ARGUMENT, message.c_str());
    }
    session->session->run(inputs, outputs, batches);
    return EDGEKIT_OK;
  });
}

edgekit_status edgekit_session_reset(edgekit_session* session) {
  if (session == nullptr) return fail(EDGEKIT_BAD_ARGUMENT, "the session is null");
  session->session->reset();
  return EDGEKIT_OK;
}

edgekit_status edgekit_session_profile(edgekit_session* session, const void* const* inputs,
                                       size_t input_count, size_t repeats, double* seconds,
                                       size_t op_count) {
  return guard([&] {
    if (const auto status = check_inputs(session, inputs, input_count); status != EDGEKIT_OK) {
      return status;
    }
    if (const auto status = check_ops(session, seconds, op_count); status != EDGEKIT_OK) {
      return status;
    }
    std::vector<double> medians;
    std::string error;
    if (!session->session->profile(inputs, repeats, &medians, &error)) {
      return fail(EDGEKIT_NO_RESOURCES, error.c_str());
    }
    std::copy(medians.begin(), medians.end(), seconds);
    return EDGEKIT_OK;
  });
}

edgekit_status edgekit_session_digests(edgekit_session* session, const void* const* inputs,
                                       size_t input_count, edgekit_digest* digests,
                                       size_t op_count) {
  return guard([&] {
    if (const auto status = check_inputs(session, inputs, input_count); status != EDGEKIT_OK) {
      return status;
    }
    if (const auto status = check_ops(session, digests, op_count); status != EDGEKIT_OK) {
      return status;
    }
    std::vector<std::string> texts;
    std::string error;
    if (!session->session->digests(inputs, &texts, &error)) {
      return fail(EDGEKIT_NO_RESOURCES, error.c_str());
    }
    for (size_t i = 0; i < op_count; ++i) {
      std::memcpy(digests[i].text, texts[i].c_str(), sizeof digests[i].text);
    }
    return EDGEKIT_OK;
  });
}

}  // extern "C"
