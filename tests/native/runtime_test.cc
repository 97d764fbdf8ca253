#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "allocation_count.h"
#include "capi/edgekit.h"
#include "random.h"
#include "runtime/crc32c.h"
#include "runtime/plan.h"
#include "runtime/session.h"
#include "runtime/thread_pool.h"
#include "test.h"
#include "tiny_plan.h"
#include "trust/sha256.h"

namespace edgekit::test {
namespace {

constexpr size_t kInputs = 32;
constexpr size_t kOutputs = 128;

std::string digest(const std::string& message, size_t part) {
  Sha256 hash;
  for (size_t i = 0; i < message.size(); i += part) {
    hash.update(message.data() + i, std::min(part, message.size() - i));
  }
  char hex[65];
  hash.finish_hex(hex);
  return hex;
}

std::vector<float> sample() {
  std::vector<float> x(kInputs);
  Random random(seed());
  for (float& value : x) value = static_cast<float>(random.integer(-100, 100)) / 50;
  return x;
}

// As many threads as are asked for on the first two cores, which may be too few for them.
Threads spread(size_t count) {
  Threads threads = {count};
  for (size_t i = 0; i < count; ++i) threads.cores.push_back(i % 2);
  return threads;
}

// Opens the file and runs it; returns "" or why it was refused.
std::string refusal(const std::vector<uint8_t>& file, size_t threads = 1) {
  std::string error;
  const auto plan = Plan::from_memory(file.data(), file.size(), &error);
  if (plan == nullptr) return error.empty() ? "refused without a word" : error;
  Failure failure;
  const auto session = Session::create(plan, spread(threads), &failure);
  if (session == nullptr) {
    return failure.message.empty() ? "refused without a word" : failure.message;
  }
  // Exactly as large as the plan says, so that a sanitizer sees a byte too many.
  std::vector<std::vector<uint8_t>> memory;
  std::vector<const void*> inputs;
  std::vector<void*> outputs;
  constexpr size_t kMost = 1 << 24;
  for (const auto* list : {&plan->inputs(), &plan->outputs()}) {
    for (const TensorInfo& tensor : *list) {
      if (tensor.size > kMost) return "";
    }
  }
  for (const TensorInfo& tensor : plan->inputs()) {
    memory.emplace_back(tensor.size);
    inputs.push_back(memory.back().data());
  }
  for (const TensorInfo& tensor : plan->outputs()) {
    memory.emplace_back(tensor.size);
    outputs.push_back(memory.back().data());
  }
  session->run(inputs.data(), outputs.data(), 1);
  return "";
}

void check_refused(const TinyPlan& plan, const char* part_of_message) {
  const std::string message = refusal(plan.pack());
  EDGEKIT_CHECK(message.find(part_of_message) != std::string::npos,
                "expected '" + std::string(part_of_message) + "', got '" + message + "'");
}

EDGEKIT_TEST(crc32c_is_castagnoli) {
  // RFC 3720, B.4.
  const std::vector<uint8_t> zeros(32);
  const std::vector<uint8_t> ones(32, 0xFF);
  EDGEKIT_CHECK(crc32c(zeros.data(), 32) == 0x8A9136AA, "zeros");
  EDGEKIT_CHECK(crc32c(ones.data(), 32) == 0x62A8AB43, "ones");
  EDGEKIT_CHECK(crc32c("123456789", 9) == 0xE3069283, "digits");
}

EDGEKIT_TEST(crc32c_by_instruction_equals_the_table) {
  Random random(seed());
  std::vector<uint8_t> bytes(40'000);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.next());
  for (int i = 0; i < 200; ++i) {
    const size_t begin = random.size(0, 100);
    const size_t size = i < 100 ? random.size(0, 200) : random.size(0, bytes.size() - begin);
    const uint8_t* data = bytes.data() + begin;
    const uint32_t whole = crc32c(data, size);
    const size_t cut = random.size(0, size);
    EDGEKIT_CHECK(whole == crc32c_by_table(data, size), std::to_string(size));
    EDGEKIT_CHECK(whole == crc32c(data + cut, size - cut, crc32c(data, cut)), std::to_string(cut));
  }
}

EDGEKIT_TEST(sha256_gives_the_published_digests) {
  // FIPS 180-4 examples, NIST.
  EDGEKIT_CHECK(
      digest("abc", 3) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      "abc");
  EDGEKIT_CHECK(digest("", 1) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "empty");
  EDGEKIT_CHECK(digest(std::string(1'000'000, 'a'), 977) ==
                    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
                "a million times a");
  for (size_t size = 50; size < 130; ++size) {
    const std::string message(size, 'x');
    EDGEKIT_CHECK(digest(message, 1) == digest(message, size), std::to_string(size));
  }
}

EDGEKIT_TEST(a_plan_runs_and_threads_change_nothing) {
  const std::vector<uint8_t> file = TinyPlan().pack();
  std::string error;
  const auto plan = Plan::from_memory(file.data(), file.size(), &error);
  EDGEKIT_CHECK(plan != nullptr, error);
  if (plan == nullptr) return;
  const std::vector<float> x = sample();
  std::vector<std::string> expected;
  for (const size_t threads : {1u, 2u, 5u}) {
    Failure failure;
    const auto session = Session::create(plan, spread(threads), &failure);
    EDGEKIT_CHECK(session != nullptr, failure.message);
    if (session == nullptr) return;
    const void* inputs[] = {x.data()};
    std::vector<std::string> digests;
    EDGEKIT_CHECK(session->digests(inputs, &digests, &error), error);
    EDGEKIT_CHECK(digests.size() == plan->ops().size(), "one digest an op");
    if (expected.empty()) expected = digests;
    EDGEKIT_CHECK(digests == expected, std::to_string(threads) + " threads");
    EDGEKIT_CHECK(digests[3] == digests[4], "a reshape keeps the bytes");
    EDGEKIT_CHECK(digests[1] != digests[2], "a table changes them");
  }
}

EDGEKIT_TEST(a_run_allocates_nothing) {
  const std::vector<uint8_t> file = TinyPlan().pack();
  std::string error;
  const auto plan = Plan::from_memory(file.data(), file.size(), &error);
  Failure failure;
  const auto session = Session::create(plan, spread(2), &failure);
  EDGEKIT_CHECK(session != nullptr, failure.message);
  if (session == nullptr) return;
  const std::vector<float> x = sample();
  std::vector<float> y(kOutputs);
  const void* inputs[] = {x.data()};
  void* outputs[] = {y.data()};
  const size_t before = allocations();
  for (int i = 0; i < 3; ++i) session->run(inputs, outputs, 1);
  EDGEKIT_CHECK(allocations() == before, std::to_string(allocations() - before) + " allocations");
  // The counter itself must see what the program asks for.
  const auto probe = std::make_unique<std::vector<int>>(1000);
  EDGEKIT_CHECK(!counts_allocations() || allocations() > before + probe->empty(), "counter");
}

EDGEKIT_TEST(impossible_cores_are_refused) {
  TinyPlan plan;
  plan.graph.cores = {0, 1023};
  EDGEKIT_CHECK(refusal(plan.pack(), 2).empty(), refusal(plan.pack(), 2));
  plan.graph.cores = {0, 1024};
  check_refused(plan, "it pins a thread to core 1024");
  plan.graph.cores.assign(1025, 0);
  check_refused(plan, "too many cores");
}

EDGEKIT_TEST(a_truncated_plan_is_refused) {
  std::vector<uint8_t> file = TinyPlan().pack();
  EDGEKIT_CHECK(refusal(file).empty(), refusal(file));
  while (!file.empty()) {
    file.pop_back();
    EDGEKIT_CHECK(!refusal(file).empty(), std::to_string(file.size()) + " bytes");
  }
}

EDGEKIT_TEST(a_flipped_bit_anywhere_is_refused) {
  const std::vector<uint8_t> file = TinyPlan().pack();
  for (size_t i = 0; i < file.size(); ++i) {
    std::vector<uint8_t> damaged = file;
    damaged[i] = static_cast<uint8_t>(damaged[i] ^ (1U << i % 8));
    EDGEKIT_CHECK(!refusal(damaged).empty(), "byte " + std::to_string(i));
  }
}

EDGEKIT_TEST(a_forged_graph_is_refused_or_stays_in_its_memory) {
  const std::vector<uint8_t> file = TinyPlan().pack();
  const size_t graph_end = file.size() - TinyPlan().constants.size();
  Random random(seed());
  size_t ran = 0;
  constexpr size_t kForgeries = 20'000;
  for (size_t i = 0; i < kForgeries; ++i) {
    std::vector<uint8_t> forged = file;
    const size_t edits = random.size(1, 3);
    for (size_t edit = 0; edit < edits; ++edit) {
      const size_t at = random.size(16, graph_end - 1);
      forged[at] = random.one_in(2) ? static_cast<uint8_t>(random.next())
                                    : random.pick<uint8_t>({0, 1, 2, 63, 64, 127, 128, 255});
    }
    repair(&forged);
    ran += refusal(forged, 1 + i % 2).empty();
  }
  EDGEKIT_CHECK(ran > 0, "no forgery was harmless: the test tries nothing beyond the checks");
  EDGEKIT_CHECK(ran < kForgeries, "every forgery ran");
}

EDGEKIT_TEST(each_lie_of_a_graph_is_named) {
  {
    TinyPlan plan;
    plan.graph.isa = "z80";
    check_refused(plan, "an instruction set that this edgekit does not know");
  }
  {
    TinyPlan plan;
    plan.graph.storage = plan::Storage_U8;
    check_refused(plan, "storage");
  }
  {
    TinyPlan plan;
    plan.graph.tensors[2]->offset = 32;
    check_refused(plan, "tensor 'conv' does not lie inside the arena");
  }
  {
    TinyPlan plan;
    plan.graph.tensors[2]->offset = UINT64_MAX - 63;
    check_refused(plan, "tensor 'conv' does not lie inside the arena");
  }
  {
    TinyPlan plan;
    plan.graph.tensors[3]->shape = {int64_t{1} << 62, 4, 4, 8};
    check_refused(plan, "tensor 'table' has an impossible shape");
  }
  {
    TinyPlan plan;
    plan.graph.tensors[3]->shape[2] = -4;
    check_refused(plan, "tensor 'table' has an impossible shape");
  }
  {
    TinyPlan plan;
    plan.graph.tensors[4]->scale = 0;
    check_refused(plan, "tensor 'sum' has no positive scale");
  }
  {
    TinyPlan plan;
    plan.graph.tensors[0]->dtype = plan::DType_Code;
    check_refused(plan, "takes the caller's codes, which only a reshape may");
  }
  {
    TinyPlan plan;
    plan.graph.tensors[1]->name = "\xC0\x80";
    check_refused(plan, "not text");
  }
  {
    TinyPlan plan;
    plan.graph.outputs = {5};
    check_refused(plan, "list of outputs");
  }
  {
    TinyPlan plan;
    plan.graph.ops[1]->params.AsConv()->input = 77;
    check_refused(plan, "op 'conv' reads what is not a tensor");
  }
  {
    TinyPlan plan;
    plan.graph.ops[1]->params.AsConv()->input = 4;
    check_refused(plan, "op 'conv' reads 'sum' before it is written");
  }
  {
    TinyPlan plan;
    plan.graph.ops[2]->params.AsLookup()->output = 2;
    check_refused(plan, "op 'lookup' writes 'conv' a second time");
  }
  {
    TinyPlan plan;
    plan.graph.tensors[3]->offset = 64;
    check_refused(plan, "op 'lookup' overwrites a tensor that is still to be read");
  }
  {
    TinyPlan plan;
    plan.graph.ops[1]->params.AsConv()->weights =
        std::make_unique<plan::Blob>(uint64_t{1} << 40, uint64_t{64});
    check_refused(plan, "op 'conv' has constants outside the file");
  }
  {
    TinyPlan plan;
    plan.graph.ops[1]->params.AsConv()->kernel = "gemm_none";
    check_refused(plan, "op 'conv'");
  }
  {
    TinyPlan plan;
    plan.graph.ops[1]->params.AsConv()->lo = 100;
    plan.graph.ops[1]->params.AsConv()->hi = 99;
    check_refused(plan, "op 'conv' clamps outside int8");
  }
  {
    TinyPlan plan;
    plan.graph.arena_size = uint64_t{1} << (sizeof(size_t) == 4 ? 29u : 45u);
    check_refused(plan, "its arena is larger than its tensors need");
  }
}

EDGEKIT_TEST(each_lie_about_a_part_is_named) {
  const char* const kPlace = "does not lie inside a tensor of its type";
  struct Lie {
    const char* message;
    void (*tell)(std::vector<std::unique_ptr<plan::TensorT>>& tensors);
  };
  const Lie lies[] = {
      {kPlace, [](auto& t) { t[3]->parent = 99; }},
      // The caller's memory, and itself.
      {kPlace, [](auto& t) { t[3]->parent = 1; }},
      {kPlace, [](auto& t) { t[3]->parent = 4; }},
      {kPlace, [](auto& t) { t[3]->pixel_stride = 16; }},
      {kPlace, [](auto& t) { t[1]->parent = 3, t[1]->offset = 64, t[1]->pixel_stride = 1; }},
      {kPlace, [](auto& t) { t[1]->parent = 3, t[1]->offset = 71, t[1]->pixel_stride = 8; }},
      {kPlace, [](auto& t) { t[1]->parent = 3, t[1]->offset = 63, t[1]->pixel_stride = 8; }},
      {kPlace,
       [](auto& t) { t[1]->parent = 3, t[1]->offset = 64, t[1]->pixel_stride = UINT64_MAX; }},
      {"op 'conv' overwrites",
       [](auto& t) { t[1]->parent = 3, t[1]->offset = 64, t[1]->pixel_stride = 8; }},
      {"op 'lookup' overwrites", [](auto& t) { t[3]->parent = 3, t[3]->offset = 64; }},
      {"has gaps, which this op can't take",
       [](auto& t) {
         // Written by the convolution, which can leave gaps, and read by a table, which can't.
         t.push_back(std::make_unique<plan::TensorT>(*t[2]));
         t[7]->shape[3] = 16;
         t[7]->offset = 320;
         t[2]->parent = 8, t[2]->offset = 324, t[2]->pixel_stride = 16;
       }},
  };
  for (const Lie& lie : lies) {
    TinyPlan plan;
    lie.tell(plan.graph.tensors);
    if (plan.graph.tensors.size() == 8) plan.graph.arena_size = 320 + 256;
    const std::string message = refusal(plan.pack());
    EDGEKIT_CHECK(message.find(lie.message) != std::string::npos,
                  std::string("expected '") + lie.message + "', got '" + message + "'");
  }
}

EDGEKIT_TEST(a_plan_for_another_cpu_opens_and_does_not_run) {
  TinyPlan other;
  size_t count;
  const IsaInfo* table = isa_table(&count);
  for (size_t i = 0; i < count; ++i) {
    if (isa_built(table[i].isa) && isa_supported(table[i].isa)) continue;
    other.graph.isa = table[i].name;
    other.graph.storage = table[i].storage == Storage::kU8 ? plan::Storage_U8 : plan::Storage_S8;
    const std::vector<uint8_t> file = other.pack();
    std::string error;
    const auto plan = Plan::from_memory(file.data(), file.size(), &error);
    EDGEKIT_CHECK(plan != nullptr, error);
    const std::string message = refusal(file);
    EDGEKIT_CHECK(message.find(std::string("needs ") + table[i].name) != std::string::npos,
                  message);
  }
}

EDGEKIT_TEST(the_c_api_runs_a_plan_and_refuses_in_words) {
  const std::vector<uint8_t> file = TinyPlan().pack();
  edgekit_plan* plan = nullptr;
  edgekit_session* session = nullptr;
  EDGEKIT_CHECK(edgekit_plan_from_memory(file.data(), 100, &plan) == EDGEKIT_BAD_PLAN, "short");
  EDGEKIT_CHECK(std::string(edgekit_last_error()).find("truncated") != std::string::npos,
                edgekit_last_error());
  EDGEKIT_CHECK(edgekit_plan_open("/nonexistent.plan", &plan) == EDGEKIT_BAD_PLAN, "no file");
  EDGEKIT_CHECK(edgekit_plan_open(nullptr, &plan) == EDGEKIT_BAD_ARGUMENT, "null");
  EDGEKIT_CHECK(edgekit_plan_from_memory(file.data(), file.size(), &plan) == EDGEKIT_OK,
                edgekit_last_error());
  EDGEKIT_CHECK(edgekit_session_create(plan, 0, &session) == EDGEKIT_BAD_ARGUMENT, "no threads");
  EDGEKIT_CHECK(edgekit_session_create(plan, 2, &session) == EDGEKIT_OK, edgekit_last_error());
  edgekit_tensor_info info;
  EDGEKIT_CHECK(edgekit_plan_input(plan, 1, &info) == EDGEKIT_BAD_ARGUMENT, "index");
  EDGEKIT_CHECK(edgekit_plan_input(plan, 0, &info) == EDGEKIT_OK, edgekit_last_error());
  EDGEKIT_CHECK(info.dtype == EDGEKIT_FLOAT32 && info.rank == 4 && info.size == 4 * kInputs,
                "input");
  edgekit_op_info op;
  EDGEKIT_CHECK(edgekit_plan_op(plan, 1, &op) == EDGEKIT_OK && std::string(op.kind) == "Conv",
                "op");
  const size_t ops = edgekit_plan_op_count(plan);
  // The session keeps what it needs of the plan.
  edgekit_plan_close(plan);

  constexpr size_t kBatches = 3;
  std::vector<float> x;
  for (size_t i = 0; i < kBatches; ++i) {
    const std::vector<float> part = sample();
    x.insert(x.end(), part.begin(), part.end());
  }
  std::vector<float> y(kBatches * kOutputs);
  const void* inputs[] = {x.data()};
  void* outputs[] = {y.data()};
  EDGEKIT_CHECK(edgekit_session_run(session, inputs, 0, outputs, 1, 1) == EDGEKIT_BAD_ARGUMENT,
                "no inputs");
  EDGEKIT_CHECK(edgekit_session_run(session, inputs, 1, outputs, 1, kBatches) == EDGEKIT_OK,
                edgekit_last_error());
  EDGEKIT_CHECK(std::equal(y.begin(), y.begin() + kOutputs, y.begin() + kOutputs), "batches");
  EDGEKIT_CHECK(std::equal(y.begin(), y.begin() + kOutputs, y.begin() + 2 * kOutputs), "batches");
  EDGEKIT_CHECK(std::any_of(y.begin(), y.end(), [](float v) { return v != 0; }), "all zeros");
  std::vector<double> seconds(ops);
  EDGEKIT_CHECK(edgekit_session_profile(session, inputs, 1, 2, seconds.data(), ops - 1) ==
                    EDGEKIT_BAD_ARGUMENT,
                "too little memory");
  EDGEKIT_CHECK(edgekit_session_profile(session, inputs, 1, 2, seconds.data(), ops) == EDGEKIT_OK,
                edgekit_last_error());
  std::vector<edgekit_digest> digests(ops);
  EDGEKIT_CHECK(edgekit_session_digests(session, inputs, 1, digests.data(), ops) == EDGEKIT_OK,
                edgekit_last_error());
  EDGEKIT_CHECK(std::string(digests.back().text).size() == 64, "digest");
  edgekit_session_destroy(session);
}

EDGEKIT_TEST(constant_tensors_are_read_where_they_lie) {
  TinyPlan plan;
  const size_t offset = align_up(plan.constants.size());
  plan.constants.resize(offset + 128);
  for (size_t i = 0; i < 128; ++i) plan.constants[offset + i] = static_cast<uint8_t>(i - 64);
  auto tensor = std::make_unique<plan::TensorT>(*plan.graph.tensors[3]);
  tensor->name = "constant";
  tensor->place = plan::Place_Constant;
  tensor->offset = offset;
  plan.graph.tensors.push_back(std::move(tensor));
  plan.graph.ops[3]->params.AsBinary()->b = 7;
  EDGEKIT_CHECK(refusal(plan.pack()).empty(), refusal(plan.pack()));

  plan.graph.tensors[7]->offset = offset + 64;
  check_refused(plan, "inside the constants");
  plan.graph.tensors[7]->offset = offset + 1;
  check_refused(plan, "inside the constants");
  plan.graph.tensors[7]->offset = offset;
  plan.graph.ops[2]->params.AsLookup()->output = 7;
  check_refused(plan, "a second time");
}

EDGEKIT_TEST(float_operators_of_a_hostile_plan_are_refused) {
  TinyPlan plan;
  plan::FloatUnaryT function;
  function.input = 3;
  function.output = 4;
  function.function = static_cast<plan::FloatFunction>(99);
  plan.graph.ops[3]->params.Set(plan::FloatUnaryT(function));
  check_refused(plan, "unknown kind");
  function.function = plan::FloatFunction_Exp;
  plan.graph.ops[3]->params.Set(plan::FloatUnaryT(function));
  check_refused(plan, "must hold float32");

  plan::FloatConvT conv;
  conv.input = 3;
  conv.output = 4;
  conv.kernel = "gemm";
  conv.residual = -2;
  plan.graph.ops[3]->params.Set(plan::FloatConvT(conv));
  check_refused(plan, "adds what is not a tensor");
  conv.residual = 99;
  plan.graph.ops[3]->params.Set(plan::FloatConvT(conv));
  check_refused(plan, "lacks constants");

  plan::FloatConvTransposeT transposed;
  transposed.input = 3;
  transposed.output = 4;
  transposed.kernel = "";
  plan.graph.ops[3]->params.Set(plan::FloatConvTransposeT(transposed));
  check_refused(plan, "names no kernel");
  transposed.kernel = "gemm";
  plan.graph.ops[3]->params.Set(plan::FloatConvTransposeT(transposed));
  check_refused(plan, "lacks constants");
  transposed.weights = std::make_unique<plan::Blob>(0, 4);
  transposed.bias = std::make_unique<plan::Blob>(uint64_t{1} << 40U, 4);
  plan.graph.ops[3]->params.Set(plan::FloatConvTransposeT(transposed));
  check_refused(plan, "outside the file");
  transposed.bias = std::make_unique<plan::Blob>(0, 4);
  plan.graph.ops[3]->params.Set(plan::FloatConvTransposeT(transposed));
  check_refused(plan, "must hold float32");
}

}  // namespace
}  // namespace edgekit::test
