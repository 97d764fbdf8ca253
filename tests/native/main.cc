#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "test.h"

namespace edgekit::test {
namespace {

struct Test {
  std::string name;
  void (*run)();
};

/// What the run knows; made on first use, since tests register before main().
struct Run {
  std::vector<Test> tests;
  std::set<Isa> required;
  std::map<Isa, size_t> cases;
  size_t failures = 0;
};

Run& run() {
  static Run instance;
  return instance;
}

/// Returns "gemm" for ".../gemm_test.cc".
std::string subject_of(const char* file) {
  std::string name = file;
  const size_t slash = name.find_last_of("/\\");
  if (slash != std::string::npos) name.erase(0, slash + 1);
  const size_t suffix = name.rfind("_test.");
  return suffix == std::string::npos ? name : name.substr(0, suffix);
}

/// Parses a comma-separated list of instruction sets. Returns false at an unknown one.
bool require_isas(const std::string& names) {
  size_t begin = 0;
  while (begin < names.size()) {
    size_t end = names.find(',', begin);
    if (end == std::string::npos) end = names.size();
    const std::string name = names.substr(begin, end - begin);
    Isa isa = Isa::kGeneric;
    if (!parse_isa(name.c_str(), &isa)) {
      std::fprintf(stderr, "required instruction set '%s' is unknown\n", name.c_str());
      return false;
    }
    run().required.insert(isa);
    begin = end + 1;
  }
  return true;
}

/// Prints how many cases each instruction set saw. Returns whether every required one saw some,
/// which is asked only of a run that compared kernels at all.
bool report_cases() {
  size_t count = 0;
  const IsaInfo* table = isa_table(&count);
  if (run().cases.empty()) return true;
  bool complete = true;
  for (size_t i = 0; i < count; ++i) {
    const size_t cases = run().cases[table[i].isa];
    const bool required = run().required.count(table[i].isa) != 0;
    const char* state = !isa_built(table[i].isa)       ? "not built"
                        : !isa_supported(table[i].isa) ? "not supported by this CPU"
                                                       : "built and supported";
    std::printf("  %-16s %8zu cases  (%s%s)\n", table[i].name, cases, state,
                required ? ", required" : "");
    if (required && cases == 0) {
      std::fprintf(stderr, "FAILED: %s was required but not exercised\n", table[i].name);
      complete = false;
    }
  }
  return complete;
}

int main_of_tests(int argc, char** argv) {
  constexpr char kUsage[] =
      "usage: %s [--list] [--require-isa=NAME[,NAME...]] [FILTER...]\n"
      "A FILTER is a part of a test's name, as in 'gemm.'. EDGEKIT_REQUIRE_ISAS adds to "
      "--require-isa; EDGEKIT_SEED sets the seed.\n";
  constexpr char kRequire[] = "--require-isa=";
  std::vector<std::string> filters;
  const char* required = std::getenv("EDGEKIT_REQUIRE_ISAS");
  if (required != nullptr && !require_isas(required)) return 2;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--list") {
      for (const Test& test : run().tests) std::puts(test.name.c_str());
      return 0;
    }
    if (argument.rfind(kRequire, 0) == 0) {
      if (!require_isas(argument.substr(sizeof(kRequire) - 1))) return 2;
    } else if (argument.rfind("-", 0) == 0) {
      std::fprintf(stderr, kUsage, argv[0]);
      return 2;
    } else {
      filters.push_back(argument);
    }
  }

  std::printf("seed %llu (EDGEKIT_SEED)\n", static_cast<unsigned long long>(seed()));
  size_t chosen = 0;
  size_t failed = 0;
  for (const Test& test : run().tests) {
    bool wanted = filters.empty();
    for (const std::string& filter : filters) wanted |= test.name.find(filter) != std::string::npos;
    if (!wanted) continue;
    ++chosen;
    run().failures = 0;
    test.run();
    failed += run().failures != 0;
    std::printf("%s %s\n", run().failures == 0 ? "passed" : "FAILED", test.name.c_str());
    std::fflush(stdout);
  }
  const bool complete = report_cases();
  std::printf("%zu tests, %zu failed\n", chosen, failed);
  if (chosen == 0) std::fprintf(stderr, "FAILED: no test has such a name; see --list\n");
  return chosen != 0 && failed == 0 && complete ? 0 : 1;
}

}  // namespace

bool add_test(const char* file, const char* name, void (*test)()) {
  run().tests.push_back({subject_of(file) + "." + name, test});
  return true;
}

void fail(const char* file, int line, const std::string& message) {
  // A broken kernel fails thousands of cases alike; the first ones tell enough.
  constexpr size_t kShown = 10;
  if (run().failures++ < kShown) {
    std::fprintf(stderr, "%s:%d: %s\n", file, line, message.c_str());
  }
}

size_t failures() { return run().failures; }

uint64_t seed() {
  const char* text = std::getenv("EDGEKIT_SEED");
  constexpr uint64_t kSeed = 20240501;
  return text != nullptr ? std::strtoull(text, nullptr, 0) : kSeed;
}

bool can_run(const char* kernel, Isa isa, bool built) {
  const char* reason = !built                ? "was not built"
                       : !isa_supported(isa) ? "needs what this CPU lacks"
                                             : nullptr;
  if (reason == nullptr) return true;
  if (run().required.count(isa) != 0) {
    fail(__FILE__, __LINE__,
         std::string(kernel) + " " + reason + ", but " + isa_info(isa).name + " is required");
  }
  return false;
}

void count_case(Isa isa) { ++run().cases[isa]; }

}  // namespace edgekit::test

int main(int argc, char** argv) { return edgekit::test::main_of_tests(argc, argv); }
