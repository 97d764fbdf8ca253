#include "kernels/gemm/gemm.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

#include "gemm_problem.h"
#include "kernels/gemm/reference.h"
#include "kernels/nibbles.h"
#include "random.h"
#include "random_codes.h"
#include "test.h"

namespace edgekit {
namespace {

using test::kReadable;
using test::kUntouched;
using test::Random;
using test::round_up;

EDGEKIT_TEST(kernels_equal_the_reference) {
  size_t count = 0;
  const GemmKernel* kernels = gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    const GemmKernel& kernel = kernels[i];
    if (!test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
    Random random(test::seed());
    constexpr int kCases = 400;
    const size_t fused = test::fused_problems();
    for (int j = 0; j < kCases; ++j) {
      test::compare(random, kernel, test::pick_problem(random, kernel));
    }
    test::check_fused(kernel, fused, 20);
  }
  test::require_cases();
}

/// So many rows that a kernel may cut them to keep a part of a in a cache of half a megabyte.
EDGEKIT_TEST(many_rows_equal_the_reference) {
  size_t count = 0;
  const GemmKernel* kernels = gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    const GemmKernel& kernel = kernels[i];
    if (!test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
    Random random(test::seed());
    for (const bool residual : {false, true}) {
      test::GemmProblem problem{};
      problem.m = random.size(450, 700);
      problem.n = random.size(6, 30);
      problem.taps = kernel.strided_taps ? random.size(1, 2) : 1;
      problem.k = random.size(1024, 1200) / problem.taps;
      problem.output = residual ? Output::kCodes : random.pick({Output::kCodes, Output::kFloat32});
      problem.residual = residual;
      test::compare(random, kernel, problem);
    }
  }
}

/// Accumulators at the ends of int32 and at ties, taken from the bias alone (k = 0), under
/// multipliers that keep, halve, or throw them out of int32.
EDGEKIT_TEST(requantizing_holds_at_the_ends) {
  constexpr int32_t kAccumulators[] = {INT32_MIN,
                                       INT32_MIN + 1,
                                       -(1 << 24) - 1,
                                       -257,
                                       -256,
                                       -255,
                                       -129,
                                       -128,
                                       -127,
                                       -5,
                                       -3,
                                       -2,
                                       -1,
                                       0,
                                       1,
                                       2,
                                       3,
                                       5,
                                       127,
                                       128,
                                       129,
                                       255,
                                       256,
                                       257,
                                       511,
                                       (1 << 24) + 1,
                                       (1 << 24) + 3,
                                       INT32_MAX - 1,
                                       INT32_MAX};
  constexpr float kScales[] = {0.5f, 1.0f, 1.5f, 0.25f, 0x1p-24f, 0x1p-31f, 3.0f, 1e9f, 0x1p-126f};
  constexpr size_t kCount = sizeof(kAccumulators) / sizeof(kAccumulators[0]);
  size_t count = 0;
  const GemmKernel* kernels = gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    const GemmKernel& kernel = kernels[i];
    if (!test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
    const size_t padded = round_up(kCount, kernel.nr);
    std::vector<int32_t> bias(padded);
    // Of weights of 4 bits, 16 times a sum stays in int32.
    const int32_t unit = kernel.bits == 4 ? 16 : 1;
    std::transform(std::begin(kAccumulators), std::end(kAccumulators), bias.begin(),
                   [unit](int32_t acc) { return acc / unit; });
    alignas(64) const int8_t no_weights[64] = {};
    const uint8_t no_input[kReadable] = {};
    for (const float scale : kScales) {
      for (const Output output : {Output::kCodes, Output::kInt32, Output::kFloat32}) {
        for (const int32_t code : {-128, 0, 127}) {
          const std::vector<float> scales(padded, scale);
          std::vector<uint8_t> y(kCount * sizeof(int32_t), kUntouched);
          std::vector<uint8_t> expected = y;
          GemmArgs args{};
          args.m = 1;
          args.n = kCount;
          args.taps = 1;
          args.a = no_input;
          args.w = no_weights;
          args.bias = bias.data();
          args.requantize.scale = scales.data();
          args.requantize.zero_point = code + storage_offset(kernel.storage);
          args.requantize.lo = static_cast<float>(-128 - code);
          args.requantize.hi = static_cast<float>(127 - code);
          args.output = output;
          args.y_stride = y.size();
          args.y = y.data();
          kernel.run(args);
          args.y = expected.data();
          reference_gemm(args, kernel.storage, no_weights);
          EDGEKIT_CHECK(y == expected, std::string(kernel.name) + " scale " +
                                           std::to_string(scale) + " zero point " +
                                           std::to_string(code));
          test::count_case(kernel.isa);
        }
      }
    }
  }
}

EDGEKIT_TEST(packing_places_every_weight_once) {
  const GemmKernel kernel{"", Isa::kGeneric,      Storage::kS8, 1, 4, 4, 4,
                          8,  Exactness::kAlways, nullptr};
  constexpr size_t kN = 5;
  constexpr size_t kK = 6;
  constexpr size_t kTaps = 3;
  std::vector<int8_t> w(kN * kTaps * kK);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<int8_t>(i + 1);
  std::vector<int8_t> packed(packed_gemm_size(kernel, kN, kK, kTaps));
  EDGEKIT_CHECK(packed.size() == 8 * kTaps * 8, std::to_string(packed.size()));
  pack_gemm(kernel, w.data(), kN, kK, kTaps, packed.data());
  for (size_t c = 0; c < 8; ++c) {
    for (size_t t = 0; t < kTaps; ++t) {
      for (size_t k = 0; k < 8; ++k) {
        const int8_t expected = c < kN && k < kK ? w[(c * kTaps + t) * kK + k] : int8_t{0};
        const size_t at = (((c / 4 * kTaps + t) * 2 + k / 4) * 4 + c % 4) * 4 + k % 4;
        EDGEKIT_CHECK(packed[at] == expected, std::to_string(at));
      }
    }
  }
}

EDGEKIT_TEST(weights_of_4_bits_share_bytes_by_steps) {
  const GemmKernel kernel{"", Isa::kGeneric,      Storage::kS8, 1, 4, 4, 4,
                          4,  Exactness::kAlways, nullptr};
  constexpr size_t kN = 5;
  constexpr size_t kK = 13;
  constexpr size_t kTaps = 3;
  std::vector<int8_t> w(kN * kTaps * kK);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<int8_t>(static_cast<int>(i % 16) - 8);
  std::vector<int8_t> packed(packed_gemm_size(kernel, kN, kK, kTaps));
  EDGEKIT_CHECK(packed.size() == 8 * kTaps * 8, std::to_string(packed.size()));
  pack_gemm(kernel, w.data(), kN, kK, kTaps, packed.data());
  for (size_t c = 0; c < 8; ++c) {
    for (size_t t = 0; t < kTaps; ++t) {
      for (size_t k = 0; k < 16; ++k) {
        const int8_t expected = c < kN && k < kK ? w[(c * kTaps + t) * kK + k] : int8_t{0};
        const size_t at = (((c / 4 * kTaps + t) * 2 + k / 8) * 4 + c % 4) * 4 + k % 4;
        const int8_t code = k % 8 < 4 ? low_nibble(packed[at]) : high_nibble(packed[at]);
        EDGEKIT_CHECK(code == expected, std::to_string(at));
      }
    }
  }
  const std::vector<int64_t> sums = sum_magnitudes(kernel, packed.data(), kN, kK, kTaps);
  for (size_t c = 0; c < kN; ++c) {
    int64_t sum = 0;
    for (size_t i = 0; i < kTaps * kK; ++i) sum += std::abs(w[c * kTaps * kK + i]);
    EDGEKIT_CHECK(sums[c] == sum, std::to_string(c));
  }
}

EDGEKIT_TEST(magnitudes_are_summed_by_column) {
  const GemmKernel kernel{"", Isa::kGeneric,      Storage::kS8, 1, 4, 4, 4,
                          8,  Exactness::kAlways, nullptr};
  constexpr size_t kN = 5;
  constexpr size_t kTaps = 2;
  constexpr size_t kK = 3;
  std::vector<int8_t> w(kN * kTaps * kK, 0);
  for (size_t i = 0; i < kTaps * kK; ++i) {
    w[i] = static_cast<int8_t>(i % 2 == 0 ? -127 : 127);
    w[4 * kTaps * kK + i] = -1;
  }
  std::vector<int8_t> packed(packed_gemm_size(kernel, kN, kK, kTaps));
  pack_gemm(kernel, w.data(), kN, kK, kTaps, packed.data());
  const std::vector<int64_t> expected = {6 * 127, 0, 0, 0, 6};
  EDGEKIT_CHECK(sum_magnitudes(kernel, packed.data(), kN, kK, kTaps) == expected, "");
}

EDGEKIT_TEST(products_fit_16_up_to_the_limit) {
  const int32_t bias[] = {-1000, 7};
  const float scale[] = {1.0f, -1.0f};
  const int64_t limit = static_cast<int64_t>(kProductLimit16);
  EDGEKIT_CHECK(products_fit_16(bias, scale, 2, limit - 1002), "one less than the limit");
  EDGEKIT_CHECK(!products_fit_16(bias, scale, 2, limit - 1001), "the limit itself");
  EDGEKIT_CHECK(!products_fit_16(bias + 1, scale + 1, 1, limit - 8), "a negative multiplier");
}

EDGEKIT_TEST(pair_sums_fit_up_to_the_last_weight) {
  const std::vector<int8_t> fits = {127, 1, -128, 127, -64, -64, 127};
  EDGEKIT_CHECK(pair_sums_fit_16(fits.data(), 1, fits.size(), 1), "128 * 255 is 32640");
  const std::vector<int8_t> positive = {0, 0, 127, 2};
  EDGEKIT_CHECK(!pair_sums_fit_16(positive.data(), 1, 4, 1), "129 * 255 is 32895");
  const std::vector<int8_t> negative = {0, 0, -128, -1};
  EDGEKIT_CHECK(!pair_sums_fit_16(negative.data(), 1, 4, 1), "129 * 255 is 32895");
  const std::vector<int8_t> apart = {0, 127, 127, 0};
  EDGEKIT_CHECK(pair_sums_fit_16(apart.data(), 1, 4, 1), "pairs start at even k");
  EDGEKIT_CHECK(pair_sums_fit_16(positive.data() + 1, 1, 1, 3), "a pair stays within its tap");
}

EDGEKIT_TEST(selection_finds_an_exact_kernel_for_every_isa) {
  size_t count = 0;
  const IsaInfo* table = isa_table(&count);
  for (size_t i = 0; i < count; ++i) {
    for (const bool fits : {false, true}) {
      const GemmKernel& kernel = select_gemm(table[i].isa, table[i].storage, 49, 32, 192, 1, fits);
      EDGEKIT_CHECK(isa_contains(table[i].isa, kernel.isa), kernel.name);
      EDGEKIT_CHECK(kernel.storage == table[i].storage, kernel.name);
      EDGEKIT_CHECK(fits || kernel.exactness == Exactness::kAlways, kernel.name);
      EDGEKIT_CHECK(find_gemm_kernel(kernel.name) == &kernel, kernel.name);
      EDGEKIT_CHECK(kernel.bits == 8, kernel.name);
      const GemmKernel& nibbles =
          select_gemm(table[i].isa, table[i].storage, 49, 32, 192, 1, fits, 4);
      EDGEKIT_CHECK(nibbles.bits == 4, nibbles.name);
      EDGEKIT_CHECK(isa_contains(table[i].isa, nibbles.isa), nibbles.name);
      EDGEKIT_CHECK(nibbles.storage == table[i].storage, nibbles.name);
    }
  }
}

EDGEKIT_TEST(tiles_multiply_only_where_they_pay) {
  struct Case {
    size_t m;
    size_t k;
    size_t taps;
    Isa expected;
  };
  constexpr Case kCases[] = {
      {16, 40, 1, Isa::kX86Amx},          {15, 40, 1, Isa::kX86Avx512Vnni},
      {16, 39, 1, Isa::kX86Avx512Vnni},   {1, 1024, 1, Isa::kX86Avx512Vnni},
      {16, 32, 9, Isa::kX86Amx},          {16, 31, 9, Isa::kX86Avx512Vnni},
      {3136, 24, 1, Isa::kX86Avx512Vnni},
  };
  for (const Case& c : kCases) {
    const GemmKernel& kernel = select_gemm(Isa::kX86Amx, Storage::kU8, c.m, 64, c.k, c.taps, true);
    EDGEKIT_CHECK(kernel.isa == c.expected, std::string(kernel.name) + " for m " +
                                                std::to_string(c.m) + " k " + std::to_string(c.k) +
                                                " taps " + std::to_string(c.taps));
  }
}

EDGEKIT_TEST(steps_are_wide_from_a_sum_of_256_on) {
  const GemmKernel& kernel = select_gemm(Isa::kArmNeon, Storage::kS8, 49, 8, 64, 1, false);
  EDGEKIT_CHECK(kernel.kr == 32, kernel.name);
  std::vector<int8_t> w(8 * 64, 0);
  // Lane 3 of column 5's second step: 127 + 127 + 1 fits.
  int8_t* lane = w.data() + 5 * 64 + 32 + 3;
  lane[0] = 127;
  lane[8] = -127;
  lane[24] = 1;
  std::vector<int8_t> packed(packed_gemm_size(kernel, 8, 64, 1));
  pack_gemm(kernel, w.data(), 8, 64, 1, packed.data());
  const std::vector<uint8_t> fits = {0, 0, 0, 0};
  EDGEKIT_CHECK(find_wide_steps(kernel, packed.data(), 8, 64, 1) == fits, "255");
  lane[16] = -1;
  pack_gemm(kernel, w.data(), 8, 64, 1, packed.data());
  const std::vector<uint8_t> wide = {0, 0, 0, 1};
  EDGEKIT_CHECK(find_wide_steps(kernel, packed.data(), 8, 64, 1) == wide, "256");
  const GemmKernel& dot = select_gemm(Isa::kArmNeonDot, Storage::kS8, 49, 8, 64, 1, false);
  EDGEKIT_CHECK(find_wide_steps(dot, packed.data(), 8, 64, 1).empty(), dot.name);
}

EDGEKIT_TEST(plain_neon_takes_pairs_of_k_for_short_sums) {
  struct Case {
    size_t n;
    size_t k;
    size_t taps;
    size_t expected_kr;
  };
  constexpr Case kCases[] = {
      {16, 48, 1, 2}, {16, 49, 1, 32}, {9, 48, 1, 2}, {8, 40, 1, 32},
      {24, 40, 1, 2}, {24, 41, 1, 32}, {16, 4, 9, 2}, {16, 8, 9, 32},
  };
  for (const Case& c : kCases) {
    const GemmKernel& kernel =
        select_gemm(Isa::kArmNeon, Storage::kS8, 49, c.n, c.k, c.taps, false);
    EDGEKIT_CHECK(
        kernel.kr == c.expected_kr,
        std::string(kernel.name) + " for n " + std::to_string(c.n) + " k " + std::to_string(c.k));
  }
}

EDGEKIT_TEST(half_panels_are_for_few_columns_or_fewer_steps) {
  struct Case {
    size_t m;
    size_t n;
    size_t k;
    size_t taps;
    uint16_t panel;
  };
  constexpr Case kCases[] = {
      {3136, 24, 144, 1, 8},  {3136, 24, 40, 1, 16},  {3136, 24, 16, 3, 8},
      {7, 24, 144, 1, 16},    {3136, 24, 12, 9, 16},  {3136, 32, 144, 1, 16},
      {3136, 16, 144, 1, 8},  {3136, 16, 12, 9, 16},  {25600, 5, 24, 1, 8},
      {25600, 4, 24, 1, 16},  {784, 40, 240, 1, 8},   {784, 40, 96, 1, 16},
      {1, 1000, 1280, 1, 16}, {128, 768, 768, 1, 8},  {95, 768, 768, 1, 16},
      {512, 512, 512, 1, 16}, {128, 768, 256, 3, 16}, {512, 512, 2048, 1, 16},
      {128, 192, 768, 1, 16},
  };
  for (const Case& c : kCases) {
    const GemmKernel& kernel =
        select_gemm(Isa::kX86Avx512Vnni, Storage::kU8, c.m, c.n, c.k, c.taps, false);
    EDGEKIT_CHECK(kernel.panel == c.panel, std::string(kernel.name) + " for m " +
                                               std::to_string(c.m) + " n " + std::to_string(c.n) +
                                               " k " + std::to_string(c.k) + " taps " +
                                               std::to_string(c.taps));
  }
}

EDGEKIT_TEST(pairs_of_rows_multiply_only_where_they_pay) {
  struct Case {
    size_t m;
    size_t k;
    size_t taps;
    Isa expected;
  };
  constexpr Case kCases[] = {
      {2, 128, 1, Isa::kArmI8mm}, {2, 127, 1, Isa::kArmNeonDot}, {1, 1280, 1, Isa::kArmNeonDot},
      {49, 9, 1, Isa::kArmI8mm},  {49, 8, 1, Isa::kArmNeonDot},  {3136, 3, 9, Isa::kArmNeonDot},
      {2, 16, 9, Isa::kArmI8mm},
  };
  for (const Case& c : kCases) {
    const GemmKernel& kernel = select_gemm(Isa::kArmI8mm, Storage::kS8, c.m, 64, c.k, c.taps, true);
    EDGEKIT_CHECK(kernel.isa == c.expected, std::string(kernel.name) + " for m " +
                                                std::to_string(c.m) + " k " + std::to_string(c.k) +
                                                " taps " + std::to_string(c.taps));
  }
}

EDGEKIT_TEST(kernel_names_say_their_rows) {
  size_t count = 0;
  const GemmKernel* kernels = gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    const GemmKernel& kernel = kernels[i];
    const std::string type = kernel.storage == Storage::kU8 ? "u8" : "s8";
    const std::string name = "gemm_" + type + "_s" + std::to_string(kernel.bits) + "c_" + type +
                             "_" + std::to_string(kernel.mr) + "x" + std::to_string(kernel.nr) +
                             "c" + std::to_string(kernel.kr) + "_" + isa_info(kernel.isa).name;
    EDGEKIT_CHECK(name == kernel.name, name);
    EDGEKIT_CHECK(kernel.nr % kernel.panel == 0, kernel.name);
    EDGEKIT_CHECK((kernel.run != nullptr) == isa_built(kernel.isa), kernel.name);
  }
}

}  // namespace
}  // namespace edgekit
