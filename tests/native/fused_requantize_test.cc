#include "kernels/fused_requantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "random.h"
#include "random_codes.h"
#include "test.h"

namespace edgekit {
namespace {

using test::Random;

/// Returns the code, without its zero point, that Requantize defines.
int32_t requantized(float scale, const Requantize& requantize, int64_t acc) {
  const float product = static_cast<float>(acc) * scale;
  const float clamped = std::fmin(std::fmax(product, requantize.lo), requantize.hi);
  return static_cast<int32_t>(std::nearbyint(clamped));
}

/// Returns the same as the fused channel computes it.
int32_t fused(const FusedChannel& channel, const Requantize& requantize, int64_t sum) {
  const auto bits = static_cast<int32_t>(channel.start + sum);
  float f = 0;
  std::memcpy(&f, &bits, sizeof(f));
  const float r = std::fma(f, channel.slope, channel.shift);
  int16_t low = 0;
  std::memcpy(&low, &r, sizeof(low));
  const int32_t offset = low - requantize.zero_point;
  return std::clamp(offset, static_cast<int32_t>(requantize.lo),
                    static_cast<int32_t>(requantize.hi));
}

/// Returns the first accumulator of a range for which both differ, or highest + 1.
int64_t first_difference(float scale, int32_t bias, const Requantize& requantize,
                         AccumulatorRange range, const FusedChannel& channel) {
  for (int64_t acc = range.lowest; acc <= range.highest; ++acc) {
    if (requantized(scale, requantize, acc) != fused(channel, requantize, acc - bias)) return acc;
  }
  return range.highest + 1;
}

bool fuse(float scale, const Requantize& requantize, AccumulatorRange range,
          FusedChannel* channel) {
  return fuse_requantize(scale, 0, requantize, range, channel);
}

Requantize full_range(int32_t zero_point) {
  Requantize requantize{};
  requantize.zero_point = zero_point;
  requantize.lo = static_cast<float>(-zero_point);
  requantize.hi = static_cast<float>(255 - zero_point);
  return requantize;
}

EDGEKIT_TEST(every_accumulator_gets_the_code_of_the_definition) {
  Random random(test::seed());
  size_t proved = 0;
  for (int i = 0; i < 150; ++i) {
    const Storage storage = random.pick({Storage::kU8, Storage::kS8});
    Requantize requantize = test::pick_requantize(random, storage);
    const float scale = random.one_in(4) ? std::ldexp(1.0f, -static_cast<int>(random.size(3, 16)))
                                         : random.log_uniform(1e-5, 0.2);
    const int64_t reach = random.one_in(3) ? random.integer(0, 300) : random.integer(0, 60000);
    const auto bias = static_cast<int32_t>(random.integer(-reach, reach));
    const AccumulatorRange range = {bias - reach, bias + random.integer(0, reach)};
    FusedChannel channel;
    if (!fuse_requantize(scale, bias, requantize, range, &channel)) continue;
    ++proved;
    const int64_t acc = first_difference(scale, bias, requantize, range, channel);
    EDGEKIT_CHECK(acc > range.highest,
                  "scale " + std::to_string(scale) + " acc " + std::to_string(acc));
  }
  EDGEKIT_CHECK(proved > 50, std::to_string(proved));
}

/// Ranges of millions, of which every accumulator next to where a code begins, and both ends, are
/// looked at: between two of them neither side changes, since neither ever descends.
EDGEKIT_TEST(accumulators_next_to_steps_get_the_codes_of_the_definition) {
  Random random(test::seed());
  size_t proved = 0;
  for (int i = 0; i < 2000; ++i) {
    const Storage storage = random.pick({Storage::kU8, Storage::kS8});
    const Requantize requantize = test::pick_requantize(random, storage);
    const float scale = random.log_uniform(0x1p-20, 0.25);
    const int64_t most = std::min(int64_t{1} << 22, static_cast<int64_t>(32000 / scale));
    const int64_t reach = random.integer(most / 8, most / 2);
    const auto bias = static_cast<int32_t>(random.integer(-reach, reach));
    const AccumulatorRange range = {bias - reach, bias + reach - 1};
    FusedChannel channel;
    if (!fuse_requantize(scale, bias, requantize, range, &channel)) continue;
    ++proved;
    EDGEKIT_CHECK(is_fused_channel(channel), "scale " + std::to_string(scale));
    const auto check = [&](int64_t acc) {
      if (acc < range.lowest || acc > range.highest) return;
      EDGEKIT_CHECK(requantized(scale, requantize, acc) == fused(channel, requantize, acc - bias),
                    "scale " + std::to_string(scale) + " acc " + std::to_string(acc));
    };
    check(range.lowest);
    check(range.highest);
    for (auto t = static_cast<int>(requantize.lo); t < static_cast<int>(requantize.hi); ++t) {
      const auto step = static_cast<int64_t>((t + 0.5) / static_cast<double>(scale));
      for (int64_t acc = step - 3; acc <= step + 3; ++acc) check(acc);
    }
  }
  EDGEKIT_CHECK(proved > 300, std::to_string(proved));
}

/// The whole reach of 2^23 accumulators.
EDGEKIT_TEST(the_widest_range_is_taken_and_no_wider_one) {
  const Requantize requantize = full_range(128);
  constexpr int64_t kReach = int64_t{1} << 23;
  FusedChannel channel;
  // A power of 2 has no fraction to hit: S is found wherever it lies.
  const float scale = 0x1p-9f;
  const AccumulatorRange widest = {-kReach / 2, kReach / 2 - 1};
  EDGEKIT_CHECK(fuse(scale, requantize, widest, &channel), "widest");
  EDGEKIT_CHECK(first_difference(scale, 0, requantize, widest, channel) == kReach / 2, "widest");
  EDGEKIT_CHECK(!fuse(scale, requantize, {widest.lowest - 1, widest.highest}, &channel), "below");
  EDGEKIT_CHECK(!fuse(scale, requantize, {widest.lowest, widest.highest + 1}, &channel), "above");
  EDGEKIT_CHECK(!fuse(0x1p-18f, requantize, {0, kReach + 1}, &channel), "outside");
  EDGEKIT_CHECK(!fuse(0x1p-18f, requantize, {-kReach - 1, -2}, &channel), "outside");
}

/// A product has to fit what is left of 16 bits, and not one code more.
EDGEKIT_TEST(products_may_reach_the_limit) {
  const Requantize requantize = full_range(254);
  const auto limit = static_cast<int64_t>(kProductLimit16);
  FusedChannel channel;
  const AccumulatorRange fits = {-8 * (limit - 1) + 1, 8 * (limit - 1) - 1};
  EDGEKIT_CHECK(fuse(0.125f, requantize, fits, &channel), "fits");
  EDGEKIT_CHECK(first_difference(0.125f, 0, requantize, fits, channel) == fits.highest + 1, "fits");
  EDGEKIT_CHECK(!fuse(0.125f, requantize, {-8 * (limit - 1), 0}, &channel), "low");
  EDGEKIT_CHECK(!fuse(0.125f, requantize, {0, 8 * (limit - 1)}, &channel), "high");
}

/// Whatever the scale and however far off: a large bias that leaves a clamp one code.
EDGEKIT_TEST(channels_of_one_code_are_taken) {
  Random random(test::seed());
  for (int i = 0; i < 40; ++i) {
    const Requantize requantize = full_range(static_cast<int32_t>(random.integer(0, 255)));
    const float scale = random.log_uniform(1e-3, 10);
    const auto bias = static_cast<int32_t>(random.pick({-1, 1}) * random.integer(1 << 20, 1 << 30));
    const AccumulatorRange range = {bias - 3000, bias + 3000};
    FusedChannel channel;
    EDGEKIT_CHECK(fuse_requantize(scale, bias, requantize, range, &channel), std::to_string(bias));
    EDGEKIT_CHECK(first_difference(scale, bias, requantize, range, channel) > range.highest,
                  std::to_string(bias));
  }
}

EDGEKIT_TEST(scales_outside_of_the_proof_are_refused) {
  const Requantize requantize = full_range(0);
  const AccumulatorRange range = {-100, 3000000};
  FusedChannel channel;
  for (const float scale : {0.25f, 1.0f, -0.125f, std::nextafter(0x1p-20f, 0.0f), std::nanf("")}) {
    EDGEKIT_CHECK(!fuse(scale, requantize, range, &channel), std::to_string(scale));
  }
  const AccumulatorRange taken = {-100, 100000};
  for (const float scale : {0.0f, 0x1p-20f, std::nextafter(0.25f, 0.0f)}) {
    EDGEKIT_CHECK(fuse(scale, requantize, taken, &channel), std::to_string(scale));
    EDGEKIT_CHECK(first_difference(scale, 0, requantize, taken, channel) == 100001,
                  std::to_string(scale));
  }
}

/// Two products that round to the middle of two codes, up and down, leave no line between them.
EDGEKIT_TEST(channels_without_a_line_are_refused) {
  const Requantize requantize = full_range(0);
  Random random(test::seed());
  size_t refused = 0;
  for (int i = 0; i < 400; ++i) {
    FusedChannel channel;
    refused += !fuse(random.log_uniform(5e-4, 2e-3), requantize, {-200000, 700000}, &channel);
  }
  EDGEKIT_CHECK(refused > 10 && refused < 300, std::to_string(refused));
}

}  // namespace
}  // namespace edgekit
