#include "kernels/pool/pool.h"

#include <cstring>
#include <vector>

#include "guarded_buffer.h"
#include "kernels/pool/reference.h"
#include "random.h"
#include "random_codes.h"
#include "test.h"

namespace edgekit {
namespace {

using test::GuardedBuffer;
using test::Random;

constexpr int kCases = 300;

std::string describe(const char* kernel, const PoolWindow& w) {
  return std::string(kernel) + " channels " + std::to_string(w.channels) + " width " +
         std::to_string(w.in_width) + " rows " + std::to_string(w.row_count) + " kernel " +
         std::to_string(w.kernel_w) + " stride " + std::to_string(w.stride_w) + " dilation " +
         std::to_string(w.dilation_w) + " pad " + std::to_string(w.pad_left);
}

/// Draws windows of which every one covers something, runs kernel and reference, compares.
template <class Args>
void compare_windows(Random& random, const Kernel<Args>& kernel, Args args) {
  PoolWindow& w = args.window;
  w.channels = random.one_in(3) ? random.size(60, 140) : random.size(1, 20);
  w.row_count = random.size(1, 3);
  w.kernel_w = random.size(1, 4);
  w.stride_w = random.size(1, 3);
  w.dilation_w = random.one_in(4) ? 2 : 1;
  const size_t extent = (w.kernel_w - 1) * w.dilation_w + 1;
  w.pad_left = random.size(0, w.dilation_w == 1 ? w.kernel_w - 1 : 0);
  w.in_width = extent + random.size(0, 8);
  // The last window may hang over the right border by all but its first column.
  w.out_width = (w.in_width - 1 + w.pad_left) / w.stride_w + 1;
  GuardedBuffer<uint8_t> rows(w.row_count * w.in_width * w.channels);
  test::fill_bytes(random, rows.data(), rows.size());
  std::vector<const uint8_t*> pointers;
  for (size_t r = 0; r < w.row_count; ++r) {
    pointers.push_back(rows.data() + r * w.in_width * w.channels);
  }
  w.rows = pointers.data();
  GuardedBuffer<uint8_t> y(w.out_width * w.channels);
  std::vector<uint8_t> expected(y.size());
  w.y = expected.data();
  reference_run(args, kernel.storage);
  w.y = y.data();
  kernel.run(args);
  EDGEKIT_CHECK(std::memcmp(y.data(), expected.data(), y.size()) == 0, describe(kernel.name, w));
  test::count_case(kernel.isa);
}

EDGEKIT_TEST(max_equals_the_reference) {
  const KernelList<MaxPoolArgs> list = kernels<MaxPoolArgs>();
  for (size_t i = 0; i < list.count; ++i) {
    const Kernel<MaxPoolArgs>& kernel = list.rows[i];
    if (!test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
    Random random(test::seed());
    for (int j = 0; j < kCases; ++j) {
      MaxPoolArgs args = {};
      const int32_t offset = storage_offset(kernel.storage);
      args.lo = (random.one_in(2) ? -128 : static_cast<int32_t>(random.integer(-128, 0))) + offset;
      args.hi = (random.one_in(2) ? 127 : static_cast<int32_t>(random.integer(0, 127))) + offset;
      compare_windows(random, kernel, args);
    }
  }
}

EDGEKIT_TEST(average_equals_the_reference) {
  const KernelList<AveragePoolArgs> list = kernels<AveragePoolArgs>();
  for (size_t i = 0; i < list.count; ++i) {
    const Kernel<AveragePoolArgs>& kernel = list.rows[i];
    if (!test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
    Random random(test::seed());
    for (int j = 0; j < kCases; ++j) {
      float multiplier[13] = {};
      for (float& m : multiplier) m = random.one_in(2) ? 0.25f : random.log_uniform(1e-3, 10);
      AveragePoolArgs args = {};
      args.multiplier = multiplier;
      args.fixed_count = random.one_in(2) ? random.size(1, 12) : 0;
      args.x_zero_point =
          static_cast<int32_t>(random.integer(-128, 127)) + storage_offset(kernel.storage);
      test::pick_range(random, kernel.storage, &args.zero_point, &args.lo, &args.hi);
      compare_windows(random, kernel, args);
    }
  }
}

EDGEKIT_TEST(global_mean_equals_the_reference) {
  const KernelList<GlobalMeanArgs> list = kernels<GlobalMeanArgs>();
  for (size_t i = 0; i < list.count; ++i) {
    const Kernel<GlobalMeanArgs>& kernel = list.rows[i];
    if (!test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
    Random random(test::seed());
    for (int j = 0; j < kCases; ++j) {
      GlobalMeanArgs args = {};
      // More than fit a sum of 16 bits, now and then.
      args.pixels = random.one_in(8) ? random.size(250, 800) : random.size(1, 60);
      args.channels = random.one_in(4) ? random.size(140, 600) : random.size(1, 140);
      args.x_stride = args.channels + random.size(0, 9);
      args.multiplier = random.one_in(2) ? 1.0f / 64 : random.log_uniform(1e-4, 1);
      args.x_zero_point =
          static_cast<int32_t>(random.integer(-128, 127)) + storage_offset(kernel.storage);
      test::pick_range(random, kernel.storage, &args.zero_point, &args.lo, &args.hi);
      GuardedBuffer<uint8_t> x((args.pixels - 1) * args.x_stride + args.channels);
      test::fill_bytes(random, x.data(), x.size());
      GuardedBuffer<uint8_t> y(args.channels);
      std::vector<uint8_t> expected(y.size());
      args.x = x.data();
      args.y = expected.data();
      reference_run(args, kernel.storage);
      args.y = y.data();
      kernel.run(args);
      EDGEKIT_CHECK(std::memcmp(y.data(), expected.data(), y.size()) == 0,
                    std::string(kernel.name) + " pixels " + std::to_string(args.pixels) +
                        " channels " + std::to_string(args.channels));
      test::count_case(kernel.isa);
    }
  }
}

}  // namespace
}  // namespace edgekit
