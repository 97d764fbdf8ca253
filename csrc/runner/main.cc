#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "isa/isa.h"
#include "runner/clock.h"
#include "runner/npy.h"
#include "runner/options.h"
#include "runner/report.h"
#include "runner/serve.h"
#include "runtime/batches.h"
#include "runtime/linked_parts.h"
#include "runtime/plan.h"
#include "runtime/session.h"

namespace edgekit::runner {
namespace {

// The exit statuses of kUsage.
enum Status { kDone = 0, kNoResources = 1, kBadUsage = 2, kBadPlan = 3, kBadInput = 4 };

Status fail(Status status, const std::string& message) {
  std::fprintf(stderr, "edgekit-run: %s\n", message.c_str());
  return status;
}

// Returns the most bytes of memory that this process has held, or 0 where Linux does not say.
size_t peak_resident_bytes() {
  FILE* const status = std::fopen("/proc/self/status", "re");
  if (status == nullptr) return 0;
  char line[128];
  size_t kib = 0;
  while (std::fgets(line, sizeof line, status) != nullptr) {
    constexpr char kKey[] = "VmHWM:";
    if (std::strncmp(line, kKey, sizeof kKey - 1) == 0) {
      kib = std::strtoul(line + sizeof kKey - 1, nullptr, 10);
    }
  }
  std::fclose(status);
  return kib * 1024;
}

void show_isas() {
  size_t count;
  const IsaInfo* table = isa_table(&count);
  for (size_t i = 0; i < count; ++i) {
    const char* state = !isa_built(table[i].isa)       ? "not built"
                        : !isa_supported(table[i].isa) ? "built, not supported by this CPU"
                                                       : "built and supported";
    std::printf("%-16s %s\n", table[i].name, state);
  }
}

// Reads the inputs into the plan's order, or fills them with zeros where none is given. The data of
// a state that is not given stays null: the session keeps it. Finds the size of the plan for them.
Status read_inputs(const Plan& plan, const Options& options, std::vector<Array>* arrays,
                   size_t* size, size_t* batches) {
  const std::vector<TensorInfo>& wanted = plan.inputs();
  arrays->resize(wanted.size());
  std::vector<std::optional<Shape>> shapes;
  for (size_t i = 0; i < wanted.size(); ++i) {
    Array& array = (*arrays)[i];
    const auto is_this = [&](const Options::Input& input) { return input.name == wanted[i].name; };
    if (plan.state_outputs()[i] >= 0 &&
        std::none_of(options.inputs.begin(), options.inputs.end(), is_this)) {
      shapes.emplace_back();
      continue;
    }
    if (options.inputs.empty()) {
      array.shape = wanted[i].shape;
      array.data = make_aligned_bytes(wanted[i].size);
      if (array.data == nullptr) return fail(kNoResources, "no memory for the inputs");
    } else {
      const Options::Input* given = nullptr;
      for (const Options::Input& input : options.inputs) {
        if (input.name == wanted[i].name) given = &input;
      }
      const std::string name = std::string("input '") + wanted[i].name + "' ";
      if (given == nullptr) {
        return fail(kBadInput, name + "is missing: " + dtype_name(wanted[i].dtype) + " " +
                                   format_shape(wanted[i].shape));
      }
      std::string error;
      if (!read_npy(given->path.c_str(), &array, &error)) return fail(kBadInput, error);
      if (array.dtype != wanted[i].dtype) {
        return fail(kBadInput, name + "is " + dtype_name(array.dtype) + ", the plan takes " +
                                   dtype_name(wanted[i].dtype));
      }
    }
    shapes.push_back(array.shape);
  }
  for (const Options::Input& input : options.inputs) {
    const auto known = [&](const TensorInfo& tensor) { return input.name == tensor.name; };
    if (std::none_of(wanted.begin(), wanted.end(), known)) {
      return fail(kBadInput, "the plan has no input '" + input.name + "'");
    }
  }
  std::string error;
  *batches = find_size(plan, shapes, size, &error);
  return *batches > 0 ? kDone : fail(kBadInput, error);
}

// Returns a name for an output's file that no directory, shell or other output trips over.
std::string file_name(const char* tensor, const std::vector<std::string>& taken) {
  constexpr size_t kMaxLength = 100;
  std::string stem;
  for (const char* c = tensor; *c != 0 && stem.size() < kMaxLength; ++c) {
    const bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                       (*c >= '0' && *c <= '9') || *c == '-' || *c == '_' || *c == '.';
    stem += plain ? *c : '_';
  }
  std::string name = stem + ".npy";
  for (size_t i = 2; std::find(taken.begin(), taken.end(), name) != taken.end(); ++i) {
    name = stem + "-" + std::to_string(i) + ".npy";
  }
  return name;
}

Status write_outputs(const Plan& plan, const Options& options, size_t batches,
                     const std::vector<AlignedBytes>& outputs, std::vector<std::string>* files) {
  // Where it can't be made, writing a file there says why.
  mkdir(options.output_dir.c_str(), 0777);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const TensorInfo& tensor = plan.outputs()[i];
    files->push_back(file_name(tensor.name, *files));
    const std::string path = options.output_dir + "/" + files->back();
    std::string error;
    if (!write_npy(path.c_str(), tensor.dtype, batched_shape(tensor, batches), outputs[i].get(),
                   batches * tensor.size, &error)) {
      return fail(kNoResources, error);
    }
  }
  return kDone;
}

Status run(const Options& options) {
  std::string error;
  Report report;
  const double begin = now();
  const std::shared_ptr<const Plan> plan = Plan::open(options.plan.c_str(), &error);
  if (plan == nullptr) return fail(kBadPlan, error);
  Failure failure;
  const Threads threads = {options.threads, options.cores.value_or(plan->cores())};
  const auto session = Session::create(plan, threads, &failure);
  if (session == nullptr) return fail(failure.bad_plan ? kBadPlan : kNoResources, failure.message);
  // Nothing in this program outlives the session, so its own thread is pinned as well.
  std::string problem = session->pinning_problem();
  if (!threads.cores.empty()) {
    const std::string own = pin_this_thread(threads.cores.front());
    if (problem.empty()) problem = own;
  }
  if (!problem.empty()) std::fprintf(stderr, "edgekit-run: %s\n", problem.c_str());
  if (!options.serve.empty()) {
    return serve(session.get(), *plan, options, &error) ? kDone : fail(kNoResources, error);
  }
  report.load = now() - begin;
  report.threads = options.threads;
  report.running_threads = session->threads();
  report.zeros = options.inputs.empty();

  std::vector<Array> arrays;
  size_t size = 0;
  if (const Status status = read_inputs(*plan, options, &arrays, &size, &report.batches);
      status != kDone) {
    return status;
  }
  session->set_size(size);
  report.plan = &session->plan();
  if (report.batches > 1 && (options.profile || options.digests)) {
    return fail(kBadInput, "--profile and --digests take one batch of the plan's own size");
  }
  std::vector<const void*> inputs;
  for (const Array& array : arrays) inputs.push_back(array.data.get());
  std::vector<AlignedBytes> owned;
  std::vector<void*> outputs;
  for (const TensorInfo& output : report.plan->outputs()) {
    owned.push_back(make_aligned_bytes(report.batches * output.size));
    outputs.push_back(owned.back().get());
    if (outputs.back() == nullptr) return fail(kNoResources, "no memory for the outputs");
  }

  for (size_t i = 0; i <= options.repeat; ++i) {
    session->reset();
    const double start = now();
    session->run(inputs.data(), outputs.data(), report.batches);
    const double seconds = now() - start;
    if (i == 0) report.first = seconds;
    if (i > 0) report.runs.push_back(seconds);
  }
  std::sort(report.runs.begin(), report.runs.end());

  if (!options.output_dir.empty()) {
    const Status status =
        write_outputs(*report.plan, options, report.batches, owned, &report.files);
    if (status != kDone) return status;
  }
  session->reset();
  if ((options.profile &&
       !session->profile(inputs.data(), options.repeat, &report.profile, &error)) ||
      (options.digests && !session->digests(inputs.data(), &report.digests, &error))) {
    return fail(kNoResources, error);
  }
  report.peak = peak_resident_bytes();
  std::fputs((options.json ? format_json(report) : format_text(report)).c_str(), stdout);
  return std::fflush(stdout) == 0 ? kDone : fail(kNoResources, "the report cannot be printed");
}

Status main_of_runner(int argc, char** argv) {
  Options options;
  std::string error;
  if (!parse_options(argc, argv, &options, &error)) {
    return fail(kBadUsage, error + "\n" + kUsage);
  }
  switch (options.action) {
    case Options::Action::kShowVersion:
      std::puts("edgekit-run " EDGEKIT_VERSION);
      return kDone;
    case Options::Action::kShowIsas:
      show_isas();
      return kDone;
    case Options::Action::kShowHelp:
      std::fputs(kUsage, stdout);
      return kDone;
    case Options::Action::kRun:
      break;
  }
  return run(options);
}

}  // namespace
}  // namespace edgekit::runner

int main(int argc, char** argv) { return edgekit::runner::main_of_runner(argc, argv); }
