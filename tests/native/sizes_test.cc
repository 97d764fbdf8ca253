#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "capi/edgekit.h"
#include "test.h"
#include "tiny_plan.h"

// Sizes: one plan for inputs of several shapes.

namespace edgekit::test {
namespace {

/// y = max(x, 0) of `rows` rows of `columns` numbers.
plan::PlanT make_relu(int64_t rows, int64_t columns) {
  plan::PlanT graph;
  graph.isa = "generic";
  graph.target = "host";
  graph.source_digest = "00";
  graph.producer = "test";
  for (const auto& [name, place] : {std::pair{"x", plan::Place_Input}, {"y", plan::Place_Output}}) {
    auto tensor = std::make_unique<plan::TensorT>();
    tensor->name = name;
    tensor->dtype = plan::DType_Float32;
    tensor->place = place;
    tensor->shape = {rows, columns};
    graph.tensors.push_back(std::move(tensor));
  }
  graph.inputs = {0};
  graph.outputs = {1};
  plan::FloatUnaryT clip;
  clip.function = plan::FloatFunction_Clip;
  clip.alpha = 0;
  clip.beta = 100;
  clip.input = 0;
  clip.output = 1;
  auto op = std::make_unique<plan::OpT>();
  op->name = "clip";
  op->params.Set(std::move(clip));
  graph.ops.push_back(std::move(op));
  return graph;
}

/// The same for rows of 3, of 5, and for four rows of 3.
plan::PlanT make_sizes() {
  plan::PlanT graph = make_relu(1, 3);
  graph.sizes.push_back(std::make_unique<plan::PlanT>(make_relu(1, 5)));
  graph.sizes.push_back(std::make_unique<plan::PlanT>(make_relu(4, 3)));
  return graph;
}

edgekit_status open(const plan::PlanT& graph, edgekit_plan** plan) {
  const std::vector<uint8_t> file = pack_plan(graph, {});
  return edgekit_plan_from_memory(file.data(), file.size(), plan);
}

edgekit_tensor_info shaped(int64_t rows, int64_t columns) {
  edgekit_tensor_info info = {};
  info.rank = 2;
  info.shape[0] = rows;
  info.shape[1] = columns;
  return info;
}

EDGEKIT_TEST(a_session_runs_the_size_that_is_chosen) {
  edgekit_plan* plan = nullptr;
  edgekit_session* session = nullptr;
  EDGEKIT_CHECK(open(make_sizes(), &plan) == EDGEKIT_OK, edgekit_last_error());
  EDGEKIT_CHECK(edgekit_plan_size_count(plan) == 3, "three sizes");
  EDGEKIT_CHECK(edgekit_session_create(plan, 1, &session) == EDGEKIT_OK, edgekit_last_error());
  const float x[12] = {-1, 2, -3, 4, -5, 6, -7, 8, -9, 10, -11, 12};
  for (size_t size = 0; size < 3; ++size) {
    edgekit_plan* own = nullptr;
    edgekit_tensor_info info;
    EDGEKIT_CHECK(edgekit_plan_size(plan, size, &own) == EDGEKIT_OK, edgekit_last_error());
    EDGEKIT_CHECK(edgekit_plan_size_count(own) == 1, "a size has no sizes");
    EDGEKIT_CHECK(edgekit_plan_output(own, 0, &info) == EDGEKIT_OK, edgekit_last_error());
    EDGEKIT_CHECK(edgekit_session_set_size(session, size) == EDGEKIT_OK, edgekit_last_error());
    float y[13];
    std::fill_n(y, 13, 99.0f);
    const void* inputs[] = {x};
    void* outputs[] = {y};
    EDGEKIT_CHECK(edgekit_session_run(session, inputs, 1, outputs, 1, 1) == EDGEKIT_OK,
                  edgekit_last_error());
    const size_t count = info.size / sizeof(float);
    EDGEKIT_CHECK(count == (size == 0 ? 3 : size == 1 ? 5 : 12), "the size's own elements");
    for (size_t i = 0; i < 13; ++i) {
      const float want = i >= count ? 99.0f : x[i] < 0 ? 0.0f : x[i];
      EDGEKIT_CHECK(y[i] == want, "element " + std::to_string(i));
    }
    // A handle outlives the one that it came from.
    if (size == 2) edgekit_plan_close(std::exchange(plan, nullptr));
    EDGEKIT_CHECK(edgekit_plan_input(own, 0, &info) == EDGEKIT_OK, edgekit_last_error());
    edgekit_plan_close(own);
  }
  EDGEKIT_CHECK(edgekit_session_set_size(session, 3) == EDGEKIT_BAD_ARGUMENT, "no fourth size");
  EDGEKIT_CHECK(edgekit_session_set_size(nullptr, 0) == EDGEKIT_BAD_ARGUMENT, "no session");
  edgekit_session_destroy(session);
}

EDGEKIT_TEST(inputs_find_the_size_that_takes_them_in_the_fewest_runs) {
  edgekit_plan* plan = nullptr;
  EDGEKIT_CHECK(open(make_sizes(), &plan) == EDGEKIT_OK, edgekit_last_error());
  const struct {
    int64_t rows;
    int64_t columns;
    size_t size;
    size_t batches;
  } cases[] = {{1, 3, 0, 1}, {1, 5, 1, 1}, {7, 5, 1, 7}, {4, 3, 2, 1},
               {8, 3, 2, 2}, {6, 3, 0, 6}, {3, 3, 0, 3}};
  for (const auto& item : cases) {
    const edgekit_tensor_info info = shaped(item.rows, item.columns);
    size_t size = 9;
    size_t batches = 9;
    EDGEKIT_CHECK(edgekit_plan_find_size(plan, &info, 1, &size, &batches) == EDGEKIT_OK,
                  edgekit_last_error());
    EDGEKIT_CHECK(size == item.size && batches == item.batches, "rows and columns");
  }
  size_t size = 9;
  size_t batches = 9;
  const edgekit_tensor_info other = shaped(1, 4);
  EDGEKIT_CHECK(edgekit_plan_find_size(plan, &other, 1, &size, &batches) == EDGEKIT_BAD_ARGUMENT,
                "no size has four columns");
  const std::string error = edgekit_last_error();
  for (const char* shape : {"[1, 4]", "[1, 3]", "[1, 5]", "[4, 3]"}) {
    EDGEKIT_CHECK(error.find(shape) != std::string::npos, error);
  }
  EDGEKIT_CHECK(edgekit_plan_find_size(plan, &other, 2, &size, &batches) == EDGEKIT_BAD_ARGUMENT,
                "one input, not two");
  EDGEKIT_CHECK(size == 9 && batches == 9, "a failed call changes nothing");
  edgekit_plan* own = nullptr;
  EDGEKIT_CHECK(edgekit_plan_size(plan, 3, &own) == EDGEKIT_BAD_ARGUMENT, "no fourth size");
  EDGEKIT_CHECK(edgekit_plan_size_count(nullptr) == 0, "no plan");
  edgekit_plan_close(plan);
}

EDGEKIT_TEST(sizes_that_are_not_of_one_network_are_refused) {
  using Lie = std::function<void(plan::PlanT*)>;
  const std::pair<const char*, Lie> lies[] = {
      {"is there twice", [](plan::PlanT* size) { *size = make_relu(1, 3); }},
      {"of another model", [](plan::PlanT* size) { size->source_digest = "01"; }},
      {"another target", [](plan::PlanT* size) { size->target = "rpi4"; }},
      {"another target", [](plan::PlanT* size) { size->cores = {1}; }},
      {"other inputs", [](plan::PlanT* size) { size->tensors[0]->name = "z"; }},
      {"other inputs", [](plan::PlanT* size) { size->tensors[1]->name = "z"; }},
      {"", [](plan::PlanT* size) { size->tensors[0]->shape = {1, 5, 1}; }},
      {"", [](plan::PlanT* size) { size->tensors[0]->shape = {1, -5}; }},
      {"", [](plan::PlanT* size) { size->arena_size = uint64_t{1} << 50; }},
      {"", [](plan::PlanT* size) { size->inputs = {7}; }},
      {"", [](plan::PlanT* size) { size->ops.clear(); }},
      {"sizes of its own",
       [](plan::PlanT* size) {
         size->sizes.push_back(std::make_unique<plan::PlanT>(make_relu(1, 7)));
       }},
  };
  for (const auto& [message, lie] : lies) {
    plan::PlanT graph = make_sizes();
    lie(graph.sizes[0].get());
    edgekit_plan* plan = nullptr;
    EDGEKIT_CHECK(open(graph, &plan) == EDGEKIT_BAD_PLAN, message);
    EDGEKIT_CHECK(std::strstr(edgekit_last_error(), message) != nullptr, edgekit_last_error());
    EDGEKIT_CHECK(plan == nullptr, "nothing was opened");
  }
}

EDGEKIT_TEST(sizes_whose_states_differ_are_refused) {
  for (const int64_t columns : {3, 5}) {
    plan::PlanT graph = make_relu(1, 3);
    graph.sizes.push_back(std::make_unique<plan::PlanT>(make_relu(columns == 3 ? 2 : 1, columns)));
    for (plan::PlanT* size : {&graph, graph.sizes[0].get()}) {
      auto entry = std::make_unique<plan::MetadataT>();
      entry->key = "state:x";
      entry->value = "y";
      size->metadata.push_back(std::move(entry));
    }
    edgekit_plan* plan = nullptr;
    EDGEKIT_CHECK(open(graph, &plan) == EDGEKIT_BAD_PLAN, "a state of another shape");
    EDGEKIT_CHECK(std::strstr(edgekit_last_error(), "states") != nullptr, edgekit_last_error());
  }
}

}  // namespace
}  // namespace edgekit::test
