#include <memory>
#include <string>
#include <vector>

#include "capi/edgekit.h"
#include "test.h"
#include "tiny_plan.h"

// States: outputs that a session hands on to the inputs of its next run.

namespace edgekit::test {
namespace {

constexpr size_t kSize = 3;

/// next = x + state, of three numbers.
plan::PlanT make_sums() {
  plan::PlanT graph;
  graph.isa = "generic";
  graph.target = "host";
  graph.source_digest = "00";
  graph.producer = "test";
  const auto add_tensor = [&](const char* name, plan::Place place, uint64_t offset) {
    auto tensor = std::make_unique<plan::TensorT>();
    tensor->name = name;
    tensor->dtype = plan::DType_Float32;
    tensor->place = place;
    tensor->shape = {1, kSize};
    tensor->offset = offset;
    graph.tensors.push_back(std::move(tensor));
  };
  add_tensor("x", plan::Place_Input, 0);
  add_tensor("state", plan::Place_Input, 1);
  add_tensor("next", plan::Place_Output, 0);
  graph.inputs = {0, 1};
  graph.outputs = {2};
  plan::FloatBinaryT sum;
  sum.a = 0;
  sum.b = 1;
  sum.output = 2;
  auto op = std::make_unique<plan::OpT>();
  op->name = "sum";
  op->params.Set(std::move(sum));
  graph.ops.push_back(std::move(op));
  return graph;
}

void add_metadata(plan::PlanT* graph, const char* key, const char* value) {
  auto entry = std::make_unique<plan::MetadataT>();
  entry->key = key;
  entry->value = value;
  graph->metadata.push_back(std::move(entry));
}

edgekit_status open(const plan::PlanT& graph, edgekit_plan** plan) {
  const std::vector<uint8_t> file = pack_plan(graph, {});
  return edgekit_plan_from_memory(file.data(), file.size(), plan);
}

EDGEKIT_TEST(a_session_hands_on_its_state_until_it_is_reset) {
  plan::PlanT graph = make_sums();
  add_metadata(&graph, "state:state", "next");
  edgekit_plan* plan = nullptr;
  edgekit_session* session = nullptr;
  EDGEKIT_CHECK(open(graph, &plan) == EDGEKIT_OK, edgekit_last_error());
  EDGEKIT_CHECK(edgekit_plan_state_output(plan, 0) == -1, "x is no state");
  EDGEKIT_CHECK(edgekit_plan_state_output(plan, 1) == 0, "state takes next");
  EDGEKIT_CHECK(edgekit_plan_state_output(plan, 2) == -1, "there is no third input");
  EDGEKIT_CHECK(edgekit_session_create(plan, 1, &session) == EDGEKIT_OK, edgekit_last_error());
  const float x[2 * kSize] = {1, 2, 3, 10, 20, 30};
  const float given[kSize] = {100, 100, 100};
  float y[2 * kSize] = {};
  const void* kept[] = {x, nullptr};
  const void* replaced[] = {x, given};
  void* outputs[] = {y};
  const auto run = [&](const void* const* inputs, size_t batches) {
    EDGEKIT_CHECK(edgekit_session_run(session, inputs, 2, outputs, 1, batches) == EDGEKIT_OK,
                  edgekit_last_error());
  };
  run(kept, 1);
  run(kept, 1);
  EDGEKIT_CHECK(y[0] == 2 && y[2] == 6, "the second run adds to the first");
  run(replaced, 1);
  run(kept, 1);
  EDGEKIT_CHECK(y[0] == 102 && y[1] == 104, "a given state takes the place of the kept one");
  EDGEKIT_CHECK(edgekit_session_reset(session) == EDGEKIT_OK, "reset");
  run(kept, 2);
  EDGEKIT_CHECK(y[0] == 1 && y[3] == 11 && y[5] == 33, "samples hand on their states");
  const void* missing[] = {nullptr, given};
  EDGEKIT_CHECK(edgekit_session_run(session, missing, 2, outputs, 1, 1) == EDGEKIT_BAD_ARGUMENT,
                "x is no state and must be given");
  EDGEKIT_CHECK(edgekit_session_reset(nullptr) == EDGEKIT_BAD_ARGUMENT, "no session");
  edgekit_session_destroy(session);
  edgekit_plan_close(plan);
}

EDGEKIT_TEST(states_that_join_what_is_unlike_are_refused) {
  const struct {
    const char* key;
    const char* value;
  } lies[] = {{"state:nothing", "next"}, {"state:state", "x"}, {"state:", "next"}};
  for (const auto& lie : lies) {
    plan::PlanT graph = make_sums();
    add_metadata(&graph, lie.key, lie.value);
    edgekit_plan* plan = nullptr;
    EDGEKIT_CHECK(open(graph, &plan) == EDGEKIT_BAD_PLAN, lie.key);
  }
  plan::PlanT twice = make_sums();
  add_metadata(&twice, "state:state", "next");
  add_metadata(&twice, "state:state", "next");
  plan::PlanT other = make_sums();
  add_metadata(&other, "state:state", "next");
  other.tensors[1]->shape = {kSize, 1};
  for (const plan::PlanT* graph : {&twice, &other}) {
    edgekit_plan* plan = nullptr;
    EDGEKIT_CHECK(open(*graph, &plan) == EDGEKIT_BAD_PLAN, "unlike, or twice");
  }
}

}  // namespace
}  // namespace edgekit::test
