#include "kernels/resize/resize.h"

#include <cstring>
#include <string>
#include <vector>

#include "guarded_buffer.h"
#include "kernels/resize/reference.h"
#include "random.h"
#include "random_codes.h"
#include "test.h"

namespace edgekit {
namespace {

using test::GuardedBuffer;
using test::Random;

constexpr int kCases = 300;

/// Calls compare(random, kernel) for each kernel of a list that can run.
template <class Args, class Compare>
void for_each_kernel(Compare compare) {
  const KernelList<Args> list = kernels<Args>();
  for (size_t i = 0; i < list.count; ++i) {
    const Kernel<Args>& kernel = list.rows[i];
    if (!test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
    Random random(test::seed());
    for (int j = 0; j < kCases; ++j) {
      compare(random, kernel);
      test::count_case(kernel.isa);
    }
  }
}

EDGEKIT_TEST(nearest_rows_equal_the_reference) {
  for_each_kernel<NearestRowArgs>([](Random& random, const Kernel<NearestRowArgs>& kernel) {
    const size_t in_width = random.size(1, 9);
    NearestRowArgs args = {};
    args.pixels = random.size(1, 30);
    args.size = random.one_in(3) ? random.size(1, 4) : random.size(1, 70);
    std::vector<uint32_t> columns(args.pixels);
    for (uint32_t& column : columns) column = static_cast<uint32_t>(random.size(0, in_width - 1));
    GuardedBuffer<uint8_t> x(in_width * args.size + 16);
    GuardedBuffer<uint8_t> y(args.pixels * args.size);
    test::fill_bytes(random, x.data(), x.size());
    std::memset(y.data(), 0xA5, y.size());
    std::vector<uint8_t> expected(y.begin(), y.end());
    args.x = x.data();
    args.columns = columns.data();
    args.y = expected.data();
    reference_run(args, kernel.storage);
    args.y = y.data();
    kernel.run(args);
    EDGEKIT_CHECK(std::memcmp(y.data(), expected.data(), expected.size()) == 0,
                  std::string(kernel.name) + " pixels " + std::to_string(args.pixels) + " size " +
                      std::to_string(args.size));
  });
}

EDGEKIT_TEST(linear_rows_equal_the_reference) {
  for_each_kernel<LinearRowArgs>([](Random& random, const Kernel<LinearRowArgs>& kernel) {
    LinearRowArgs args = {};
    args.in_width = random.size(1, 9);
    args.pixels = random.size(1, 20);
    args.channels = random.size(1, 50);
    std::vector<uint32_t> columns(args.pixels);
    std::vector<uint16_t> weights(args.pixels);
    for (uint32_t& column : columns) {
      column = static_cast<uint32_t>(random.size(0, args.in_width - 1));
    }
    const auto pick_weight = [&] {
      return random.one_in(3) ? random.pick<int64_t>({0, 1, 1024, 2047, kResizeOne})
                              : random.integer(0, kResizeOne);
    };
    for (uint16_t& weight : weights) weight = static_cast<uint16_t>(pick_weight());
    GuardedBuffer<uint8_t> top(args.in_width * args.channels);
    GuardedBuffer<uint8_t> bottom(args.in_width * args.channels);
    GuardedBuffer<uint8_t> y(args.pixels * args.channels);
    test::fill_bytes(random, top.data(), top.size());
    test::fill_bytes(random, bottom.data(), bottom.size());
    std::memset(y.data(), 0xA5, y.size());
    std::vector<uint8_t> expected(y.begin(), y.end());
    args.top = top.data();
    args.bottom = bottom.data();
    args.row_weight = static_cast<int32_t>(pick_weight());
    args.columns = columns.data();
    args.weights = weights.data();
    args.multiplier = random.log_uniform(0.2, 5) / (kResizeOne * kResizeOne);
    args.x_zero_point =
        static_cast<int32_t>(random.integer(-128, 127)) + storage_offset(kernel.storage);
    test::pick_range(random, kernel.storage, &args.zero_point, &args.lo, &args.hi);
    args.y = expected.data();
    reference_run(args, kernel.storage);
    args.y = y.data();
    kernel.run(args);
    EDGEKIT_CHECK(std::memcmp(y.data(), expected.data(), expected.size()) == 0,
                  std::string(kernel.name) + " pixels " + std::to_string(args.pixels) +
                      " channels " + std::to_string(args.channels));
  });
}

}  // namespace
}  // namespace edgekit
