// Runs a network on a stream: stream MODEL.plan [THREADS] < INPUTS > OUTPUTS
//
// Reads the bytes of all inputs of one run after another, as a camera or microphone would send
// them, and writes those of all outputs. States go on from run to run. In the end it says on its
// error output how many runs there were and what the median one took.

#include <edgekit.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

void check(edgekit_status status) {
  if (status != EDGEKIT_OK) throw std::runtime_error(edgekit_last_error());
}

struct End {
  void operator()(edgekit_plan* plan) const { edgekit_plan_close(plan); }
  void operator()(edgekit_session* session) const { edgekit_session_destroy(session); }
};

using Plan = std::unique_ptr<edgekit_plan, End>;
using Session = std::unique_ptr<edgekit_session, End>;
using Bytes = std::vector<char>;

Plan open_plan(const std::string& path) {
  edgekit_plan* plan = nullptr;
  check(edgekit_plan_open(path.c_str(), &plan));
  return Plan(plan);
}

Session make_session(const Plan& plan, std::size_t threads) {
  edgekit_session* session = nullptr;
  check(edgekit_session_create(plan.get(), threads, &session));
  return Session(session);
}

/// One run's inputs and outputs.
class Buffers {
 public:
  explicit Buffers(const Plan& plan) {
    edgekit_tensor_info info;
    for (std::size_t i = 0; i < edgekit_plan_input_count(plan.get()); ++i) {
      // A state is the session's own to keep.
      const bool is_state = edgekit_plan_state_output(plan.get(), i) >= 0;
      check(edgekit_plan_input(plan.get(), i, &info));
      inputs_.emplace_back(is_state ? 0 : info.size);
    }
    for (std::size_t i = 0; i < edgekit_plan_output_count(plan.get()); ++i) {
      check(edgekit_plan_output(plan.get(), i, &info));
      outputs_.emplace_back(info.size);
    }
    for (Bytes& bytes : inputs_) input_addresses_.push_back(bytes.empty() ? nullptr : bytes.data());
    for (Bytes& bytes : outputs_) output_addresses_.push_back(bytes.data());
  }

  /// Reads the inputs of a run; returns false at the stream's end.
  bool read(std::istream& stream) {
    bool first = true;
    for (Bytes& bytes : inputs_) {
      if (bytes.empty()) continue;
      stream.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
      if (first && stream.gcount() == 0) return false;
      if (!stream) throw std::runtime_error("the stream ends in the middle of an input");
      first = false;
    }
    return !first;
  }

  void run(const Session& session) {
    check(edgekit_session_run(session.get(), input_addresses_.data(), input_addresses_.size(),
                              output_addresses_.data(), output_addresses_.size(), 1));
  }

  void write(std::ostream& stream) const {
    for (const Bytes& bytes : outputs_) {
      stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    }
    if (!stream.flush()) throw std::runtime_error("the outputs cannot be written");
  }

 private:
  std::vector<Bytes> inputs_;
  std::vector<Bytes> outputs_;
  std::vector<const void*> input_addresses_;
  std::vector<void*> output_addresses_;
};

void run_stream(const std::string& path, std::size_t threads) {
  const Plan plan = open_plan(path);
  const Session session = make_session(plan, threads);
  Buffers buffers(plan);
  std::vector<double> milliseconds;
  while (buffers.read(std::cin)) {
    const auto begin = std::chrono::steady_clock::now();
    buffers.run(session);
    const std::chrono::duration<double, std::milli> taken =
        std::chrono::steady_clock::now() - begin;
    milliseconds.push_back(taken.count());
    buffers.write(std::cout);
  }
  if (milliseconds.empty()) return;
  const auto middle = milliseconds.begin() + static_cast<std::ptrdiff_t>(milliseconds.size() / 2);
  std::nth_element(milliseconds.begin(), middle, milliseconds.end());
  std::cerr << milliseconds.size() << " runs, median " << *middle << " ms\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::cerr << "usage: stream MODEL.plan [THREADS] < INPUTS > OUTPUTS\n";
    return 2;
  }
  try {
    run_stream(argv[1], argc == 3 ? std::strtoul(argv[2], nullptr, 10) : 1);
  } catch (const std::exception& error) {
    std::cerr << "stream: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
