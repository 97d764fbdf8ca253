#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "isa/isa.h"

// The native tests' own framework. A file `<subject>_test.cc` beside this one is found by CMake;
// its tests are named `<subject>.<name>` and register themselves:
//
//   EDGEKIT_TEST(rounds_ties_to_even) { EDGEKIT_CHECK(round(0.5) == 0, "0.5"); }

namespace edgekit::test {

/// Adds a test to the list; called by EDGEKIT_TEST before main().
bool add_test(const char* file, const char* name, void (*run)());

/// Records a failed check of the running test and prints it. The test goes on.
void fail(const char* file, int line, const std::string& message);

/// Returns how many checks of the running test have failed.
size_t failures();

/// Returns the seed of this run: EDGEKIT_SEED, or a fixed one. main() prints it.
uint64_t seed();

/// Returns whether a kernel that is declared for `isa` can run here, and is to: EDGEKIT_ONLY_ISAS
/// names the sets of a run that others complete.
///
/// It is a failure when it cannot and EDGEKIT_REQUIRE_ISAS (or --require-isa) names the set.
bool can_run(const char* kernel, Isa isa, bool built);

/// Names what the running test is about to do, for the message of a crash.
void set_case(const std::string& name);

/// Fails the running test unless it counted a case of every instruction set that is required, other
/// than those `without` kernels of their own in the list under test.
void require_cases(std::initializer_list<Isa> without = {});

/// Counts one comparison of a kernel of `isa` with its reference.
void count_case(Isa isa);

}  // namespace edgekit::test

#define EDGEKIT_TEST(name)                                             \
  static void edgekit_test_##name();                                   \
  static const bool edgekit_test_added_##name =                        \
      ::edgekit::test::add_test(__FILE__, #name, edgekit_test_##name); \
  static void edgekit_test_##name()

/// Fails the test, with `message` (anything a std::string is made from), unless `condition` holds.
#define EDGEKIT_CHECK(condition, message)                                                  \
  do {                                                                                     \
    if (!(condition)) {                                                                    \
      ::edgekit::test::fail(__FILE__, __LINE__, std::string(#condition ": ") + (message)); \
    }                                                                                      \
  } while (false)
