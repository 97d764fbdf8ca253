// Loads each plan whose path a line of standard input holds, runs it, and answers with a line:
// "ran", or why it was refused. What a plan may not do, it shows by not answering: a crash, or a
// loop without an end. tests/fuzz feeds it.

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "runtime/plan.h"
#include "runtime/session.h"

namespace edgekit {
namespace {

/// Plans that ask for more are honest about it; they are not run.
constexpr uint64_t kMostBytes = 64u << 20u;

/// Returns as many random values as fit in `size` bytes, small numbers if they are read as float32.
std::vector<uint8_t> make_values(size_t size) {
  std::vector<uint8_t> values(size);
  uint32_t state = 1;
  for (size_t i = 0; i < size; ++i) {
    state = state * 1664525u + 1013904223u;
    values[i] = static_cast<uint8_t>(i % 4 == 3 ? 0x3E | (state >> 31u) << 7u : state >> 24u);
  }
  return values;
}

bool is_large(const Plan& plan) {
  uint64_t bytes = plan.arena_size();
  for (const auto* list : {&plan.inputs(), &plan.outputs()}) {
    for (const TensorInfo& tensor : *list) bytes = std::max<uint64_t>(bytes, tensor.size);
  }
  for (const OpInfo& op : plan.ops()) bytes = std::max<uint64_t>(bytes, op.output.size);
  return bytes > kMostBytes;
}

std::string run_plan(const std::vector<uint8_t>& file, size_t threads) {
  std::string error;
  const std::shared_ptr<const Plan> plan = Plan::from_memory(file.data(), file.size(), &error);
  if (plan == nullptr) return error;
  if (is_large(*plan)) return "large";
  Failure failure;
  const std::unique_ptr<Session> session =
      Session::create(plan, {threads, std::vector<uint32_t>(threads)}, &failure);
  if (session == nullptr) return failure.message;
  // Each in memory of its own, behind which a sanitizer watches.
  std::vector<std::vector<uint8_t>> memory;
  std::vector<const void*> inputs;
  std::vector<void*> outputs;
  for (const TensorInfo& tensor : plan->inputs()) {
    memory.push_back(make_values(tensor.size));
    inputs.push_back(memory.back().data());
  }
  for (const TensorInfo& tensor : plan->outputs()) {
    memory.emplace_back(tensor.size);
    outputs.push_back(memory.back().data());
  }
  session->run(inputs.data(), outputs.data(), 1);
  std::vector<std::string> digests;
  if (!session->digests(inputs.data(), &digests, &error)) return error;
  return "ran";
}

}  // namespace
}  // namespace edgekit

int main() {
  size_t threads = 1;
  for (std::string path; std::getline(std::cin, path); threads = 3 - threads) {
    std::ifstream stream(path, std::ios::binary);
    const std::vector<uint8_t> file{std::istreambuf_iterator<char>(stream), {}};
    std::string answer = edgekit::run_plan(file, threads);
    std::replace(answer.begin(), answer.end(), '\n', ' ');
    std::cout << answer << std::endl;
  }
  return 0;
}
