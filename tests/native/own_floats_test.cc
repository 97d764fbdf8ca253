#include "ops/own_floats.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "conv_problem.h"
#include "kernels/float_gemm/float_gemm.h"
#include "op_harness.h"
#include "ops/float_conv.h"
#include "random_floats.h"
#include "test.h"

// Weights that plans hold in float16: each becomes the float32 of its value, once.

namespace edgekit {
namespace {

using test::blob_of;
using test::OwnedTensor;
using test::Random;

constexpr PlanTarget kTarget = {Isa::kGeneric, Storage::kS8};

/// Returns the value of a float16 by IEEE 754-2019, 3.4: sign, 5 bits of exponent, 10 of fraction.
double value_of(uint16_t half) {
  const double sign = (half & 0x8000) != 0 ? -1 : 1;
  const int exponent = half >> 10 & 31;
  const int fraction = half & 1023;
  if (exponent == 31) {
    return fraction == 0 ? sign * HUGE_VAL : std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

EDGEKIT_TEST(every_half_has_its_value) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const double wanted = value_of(half);
    const auto widened = static_cast<double>(widen_half(half));
    const bool same = std::isnan(wanted)
                          ? std::isnan(widened)
                          : widened == wanted && std::signbit(widened) == std::signbit(wanted);
    EDGEKIT_CHECK(same, std::to_string(bits) + " is " + std::to_string(widened));
  }
}

EDGEKIT_TEST(halves_are_widened_and_floats_are_left) {
  const std::vector<uint16_t> halves = {0x3C00, 0xC000, 0x0001};
  OwnFloats own;
  std::string error;
  EDGEKIT_CHECK(own.init(blob_of(halves), 3, 16, &error), error);
  EDGEKIT_CHECK(own.data()[0] == 1 && own.data()[1] == -2 && own.data()[2] == 0x1p-24F, "halves");
  const OwnFloats moved = std::move(own);
  EDGEKIT_CHECK(moved.data()[1] == -2, "moved halves");
  const std::vector<float> floats = {1, -2};
  OwnFloats left;
  EDGEKIT_CHECK(left.init(blob_of(floats), 2, 32, &error), error);
  EDGEKIT_CHECK(left.data() == floats.data(), "floats are copied");
}

EDGEKIT_TEST(other_widths_and_sizes_are_refused) {
  const std::vector<uint16_t> halves(4);
  struct Case {
    const char* message;
    size_t count;
    size_t bits;
  };
  for (const Case& c : {Case{"8 bits are unknown", 8, 8}, Case{"0 bits are unknown", 4, 0},
                        Case{"the weights hold", 3, 16}, Case{"the weights hold", 5, 16},
                        Case{"the weights hold", 4, 32}}) {
    OwnFloats own;
    std::string error;
    EDGEKIT_CHECK(!own.init(blob_of(halves), c.count, c.bits, &error), c.message);
    EDGEKIT_CHECK(error.find(c.message) != std::string::npos, error);
  }
}

EDGEKIT_TEST(layers_of_halves_are_those_of_their_values) {
  Random random(test::seed());
  const FloatGemmKernel& kernel = select_float_gemm(kTarget.isa);
  for (int i = 0; i < 20; ++i) {
    const size_t c = random.size(1, 9);
    const size_t n = random.size(1, 20);
    OwnedTensor input("input", DType::kFloat32, {1, 3, 3, static_cast<int64_t>(c)});
    OwnedTensor output("output", DType::kFloat32, {1, 3, 3, static_cast<int64_t>(n)});
    test::fill_floats(random, reinterpret_cast<float*>(input.bytes()), 9 * c);
    std::vector<uint16_t> halves(packed_float_gemm_size(kernel, n, c, 1));
    // Finite ones of either sign.
    for (uint16_t& half : halves) half = static_cast<uint16_t>(random.next() & 0xBBFF);
    std::vector<float> floats(halves.size());
    for (size_t j = 0; j < halves.size(); ++j) floats[j] = widen_half(halves[j]);
    std::vector<float> bias(n);
    test::fill_floats(random, bias.data(), n);
    FloatConvParams params;
    params.input = input.view();
    params.output = output.view();
    params.kernel = kernel.name;
    params.weights = blob_of(floats);
    params.epilogue.bias = blob_of(bias);
    params.epilogue.lo = -HUGE_VALF;
    params.epilogue.hi = HUGE_VALF;
    std::string error;
    const auto whole = make_float_conv(params, kTarget, &error);
    EDGEKIT_CHECK(whole != nullptr, error);
    if (whole == nullptr) continue;
    test::GuardedBuffer<uint8_t> scratch(whole->scratch_size(), 64);
    whole->run(0, whole->units(), scratch.data());
    const std::vector<uint8_t> expected(output.bytes(), output.bytes() + output.size());
    params.weights = blob_of(halves);
    params.weight_bits = 16;
    const auto narrow = make_float_conv(params, kTarget, &error);
    EDGEKIT_CHECK(narrow != nullptr, error);
    if (narrow == nullptr) continue;
    test::check_runs(random, *narrow, output, expected, "halves");
    test::count_case(kTarget.isa);
  }
}

}  // namespace
}  // namespace edgekit
