// The kernels for x86_amx on a CPU that lacks AMX, by emulation; on one that has it they run as
// they are.

#if defined(__x86_64__) && defined(__linux__)

#include <cstdio>
#include <initializer_list>
#include <string>

#include "amx_emulator.h"
#include "gemm_problem.h"
#include "kernels/gemm/gemm.h"
#include "test.h"

namespace edgekit {
namespace {

/// Returns the kernel, or null (and says so) where not even the emulator can run it.
const GemmKernel* find_kernel() {
  const GemmKernel* kernel = find_gemm_kernel("gemm_u8_s8c_u8_32x32c4_x86_amx");
  const bool runs =
      kernel != nullptr && kernel->run != nullptr && isa_supported(isa_info(Isa::kX86Amx).parent);
  if (!runs) std::printf("  x86_amx is neither here nor emulated: that takes AVX512-VNNI\n");
  return runs ? kernel : nullptr;
}

/// Compares one problem, and checks that tiles are given back.
void compare(test::AmxEmulator& emulator, test::Random& random, const GemmKernel& kernel,
             const test::GemmProblem& problem) {
  test::compare(random, kernel, problem);
  EDGEKIT_CHECK(!emulator.configured(), "tiles stay configured behind the call");
}

EDGEKIT_TEST(kernel_equals_the_reference) {
  const GemmKernel* kernel = find_kernel();
  if (kernel == nullptr) return;
  test::AmxEmulator emulator;
  test::Random random(test::seed());
  constexpr int kCases = 150;
  for (int i = 0; i < kCases; ++i) {
    compare(emulator, random, *kernel, test::pick_problem(random, *kernel));
  }
  EDGEKIT_CHECK(isa_supported(Isa::kX86Amx) || emulator.executed() > 0, "nothing was executed");
}

/// Chunks of k: one, several alike, several of two widths, more than are kept of copied rows.
EDGEKIT_TEST(every_cut_of_k_is_multiplied) {
  const GemmKernel* kernel = find_kernel();
  if (kernel == nullptr) return;
  test::AmxEmulator emulator;
  test::Random random(test::seed());
  for (const size_t k :
       std::initializer_list<size_t>{1, 4, 63, 64, 65, 68, 80, 100, 128, 132, 192, 196}) {
    for (const bool row_pointers : {false, true}) {
      for (const size_t m : std::initializer_list<size_t>{16, 33, 49}) {
        compare(
            emulator, random, *kernel,
            {m, 49, k, row_pointers ? size_t{9} : size_t{1}, row_pointers, Output::kCodes, false});
      }
    }
  }
}

/// A block of weights that is left and come back to, since it is larger than the cache.
EDGEKIT_TEST(weights_beyond_the_cache_are_grouped) {
  const GemmKernel* kernel = find_kernel();
  if (kernel == nullptr) return;
  test::AmxEmulator emulator;
  test::Random random(test::seed());
  compare(emulator, random, *kernel, {33, 80, 20000, 1, false, Output::kCodes, true});
  compare(emulator, random, *kernel, {17, 80, 20000, 1, true, Output::kCodes, true});
}

}  // namespace
}  // namespace edgekit

#endif
