#include <signal.h>
#include <unistd.h>

#include <algorithm>
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
  /// The instruction sets to exercise; empty: all.
  std::set<Isa> only;
  std::map<Isa, size_t> cases;
  /// Of the running test.
  std::map<Isa, size_t> test_cases;
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

/// Returns whether an instruction set is one that the run is to exercise.
bool is_exercised(Isa isa) { return run().only.empty() || run().only.count(isa) != 0; }

/// Requires every instruction set that this binary has and this CPU can execute.
void require_supported() {
  size_t count = 0;
  const IsaInfo* table = isa_table(&count);
  for (size_t i = 0; i < count; ++i) {
    const Isa isa = table[i].isa;
    if (isa_built(isa) && isa_supported(isa) && is_exercised(isa)) run().required.insert(isa);
  }
}

/// Adds a comma-separated list of instruction sets to `isas`. Returns false at an unknown one.
bool add_isas(const std::string& names, std::set<Isa>* isas) {
  size_t begin = 0;
  while (begin < names.size()) {
    size_t end = names.find(',', begin);
    if (end == std::string::npos) end = names.size();
    const std::string name = names.substr(begin, end - begin);
    begin = end + 1;
    Isa isa = Isa::kGeneric;
    if (name == "supported" && isas == &run().required) {
      require_supported();
    } else if (parse_isa(name.c_str(), &isa)) {
      isas->insert(isa);
    } else {
      std::fprintf(stderr, "instruction set '%s' is unknown\n", name.c_str());
      return false;
    }
  }
  return true;
}

/// Prints how many cases each instruction set saw, of a run that compared kernels at all.
void report_cases() {
  size_t count = 0;
  const IsaInfo* table = isa_table(&count);
  if (run().cases.empty()) return;
  for (size_t i = 0; i < count; ++i) {
    const char* state = !isa_built(table[i].isa)       ? "not built"
                        : !isa_supported(table[i].isa) ? "not supported by this CPU"
                                                       : "built and supported";
    const bool required = run().required.count(table[i].isa) != 0;
    std::printf("  %-16s %8zu cases  (%s%s)\n", table[i].name, run().cases[table[i].isa], state,
                required ? ", required" : "");
  }
}

/// What a crash message says: the running test and its case.
char current_test[128];
char current_case[512];

void copy_name(char* to, size_t size, const std::string& name) {
  std::snprintf(to, size, "%s", name.c_str());
}

/// Says which case a kernel crashed in, then dies of the signal: a guard page was touched.
void report_crash(int signal_number) {
  const auto print = [](const char* text) {
    if (write(STDERR_FILENO, text, std::strlen(text)) < 0) return;
  };
  print("CRASHED: ");
  print(current_test);
  print(": ");
  print(current_case);
  print("\n");
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

int main_of_tests(int argc, char** argv) {
  constexpr char kUsage[] =
      "usage: %s [--list] [--require-isa=NAME[,NAME...]] [FILTER...]\n"
      "A FILTER is how a test's name begins, as in 'gemm.'. A required instruction set that is not "
      "exercised fails;\n'supported' names all that this CPU can execute. EDGEKIT_REQUIRE_ISAS "
      "adds "
      "to --require-isa, EDGEKIT_ONLY_ISAS names those to exercise alone, EDGEKIT_SEED sets the "
      "seed.\n";
  constexpr char kRequire[] = "--require-isa=";
  std::vector<std::string> filters;
  const char* only = std::getenv("EDGEKIT_ONLY_ISAS");
  if (only != nullptr && !add_isas(only, &run().only)) return 2;
  const char* required = std::getenv("EDGEKIT_REQUIRE_ISAS");
  if (required != nullptr && !add_isas(required, &run().required)) return 2;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--list") {
      for (const Test& test : run().tests) std::puts(test.name.c_str());
      return 0;
    }
    if (argument.rfind(kRequire, 0) == 0) {
      if (!add_isas(argument.substr(sizeof(kRequire) - 1), &run().required)) return 2;
    } else if (argument.rfind("-", 0) == 0) {
      std::fprintf(stderr, kUsage, argv[0]);
      return 2;
    } else {
      filters.push_back(argument);
    }
  }

  for (const int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) signal(number, report_crash);
  std::printf("seed %llu (EDGEKIT_SEED)\n", static_cast<unsigned long long>(seed()));
  size_t chosen = 0;
  size_t failed = 0;
  for (const Test& test : run().tests) {
    bool wanted = filters.empty();
    for (const std::string& filter : filters) wanted |= test.name.rfind(filter, 0) == 0;
    if (!wanted) continue;
    ++chosen;
    run().failures = 0;
    run().test_cases.clear();
    copy_name(current_test, sizeof(current_test), test.name);
    current_case[0] = '\0';
    test.run();
    failed += run().failures != 0;
    std::printf("%s %s\n", run().failures == 0 ? "passed" : "FAILED", test.name.c_str());
    std::fflush(stdout);
  }
  report_cases();
  std::printf("%zu tests, %zu failed\n", chosen, failed);
  if (chosen == 0) std::fprintf(stderr, "FAILED: no test has such a name; see --list\n");
  return chosen != 0 && failed == 0 ? 0 : 1;
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
                       : !is_exercised(isa)  ? "is not among EDGEKIT_ONLY_ISAS"
                                             : nullptr;
  if (reason == nullptr) return true;
  if (run().required.count(isa) != 0) {
    fail(__FILE__, __LINE__,
         std::string(kernel) + " " + reason + ", but " + isa_info(isa).name + " is required");
  }
  return false;
}

void set_case(const std::string& name) { copy_name(current_case, sizeof(current_case), name); }

void require_cases(std::initializer_list<Isa> without) {
  for (const Isa isa : run().required) {
    if (std::find(without.begin(), without.end(), isa) != without.end()) continue;
    if (run().test_cases[isa] == 0) {
      fail(__FILE__, __LINE__, std::string(isa_info(isa).name) + " was required but not exercised");
    }
  }
}

void count_case(Isa isa) {
  ++run().cases[isa];
  ++run().test_cases[isa];
}

}  // namespace edgekit::test

int main(int argc, char** argv) { return edgekit::test::main_of_tests(argc, argv); }
