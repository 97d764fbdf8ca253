#include "kernels/elementwise/elementwise.h"

#include <cstring>
#include <limits>
#include <vector>

#include "guarded_buffer.h"
#include "kernels/elementwise/reference.h"
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

size_t operand_size(size_t rows, size_t width, size_t stride, size_t step) {
  return (rows - 1) * stride + (width - 1) * step + 1;
}

/// Draws operands in every form: dense, a scalar or a row that repeats, and the output in an input.
template <class Args>
void compare_binary(Random& random, const Kernel<Args>& kernel, Args args) {
  Operands& o = args.operands;
  o.rows = random.size(1, 5);
  o.width = random.one_in(8) ? random.size(200, 400) : random.size(1, 70);
  o.a_step = random.size(0, 1);
  o.b_step = random.size(0, 1);
  o.a_stride = random.one_in(3) ? 0 : o.a_step * o.width + random.size(0, 3);
  o.b_stride = random.one_in(3) ? 0 : o.b_step * o.width + random.size(0, 3);
  o.y_stride = o.width + random.size(0, 3);
  if (random.one_in(3)) {
    // Rows side by side, as of an image and its channels' constants.
    o.rows = random.size(1, 20);
    o.width = random.pick<size_t>({8, 24, 32, 48, 96, 128, 160, o.width});
    o.a_stride = o.a_step == 0 ? 0 : o.width;
    o.b_stride = o.b_step == 0 || random.one_in(2) ? 0 : o.width;
    o.y_stride = o.width;
  }
  if (random.one_in(40)) {
    // More than a kernel prepares of a row that repeats.
    o.width = random.size(1000, 2100);
    o.b_stride = 0;
    o.a_stride = o.a_step * o.width;
    o.y_stride = o.width + random.size(0, 3);
  }
  const bool in_place = random.one_in(4);
  if (in_place) {
    o.a_step = 1;
    o.a_stride = o.y_stride;
  }
  GuardedBuffer<uint8_t> a(operand_size(o.rows, o.width, o.a_stride, o.a_step));
  GuardedBuffer<uint8_t> b(operand_size(o.rows, o.width, o.b_stride, o.b_step));
  GuardedBuffer<uint8_t> y(operand_size(o.rows, o.width, o.y_stride, 1));
  test::fill_bytes(random, a.data(), a.size());
  test::fill_bytes(random, b.data(), b.size());
  std::memset(y.data(), 0xA5, y.size());
  std::vector<uint8_t> expected(y.begin(), y.end());
  if (in_place) expected.assign(a.begin(), a.end());
  const int32_t offset = storage_offset(kernel.storage);
  o.a_zero_point = static_cast<int32_t>(random.integer(-128, 127)) + offset;
  o.b_zero_point = static_cast<int32_t>(random.integer(-128, 127)) + offset;
  test::pick_range(random, kernel.storage, &o.zero_point, &o.lo, &o.hi);

  o.a = a.data();
  o.b = b.data();
  o.y = expected.data();
  reference_run(args, kernel.storage);
  o.y = in_place ? a.data() : y.data();
  kernel.run(args);
  EDGEKIT_CHECK(std::memcmp(o.y, expected.data(), expected.size()) == 0,
                std::string(kernel.name) + " rows " + std::to_string(o.rows) + " width " +
                    std::to_string(o.width) + " steps " + std::to_string(o.a_step) +
                    std::to_string(o.b_step) + (in_place ? " in place" : ""));
}

EDGEKIT_TEST(add_equals_the_reference) {
  for_each_kernel<AddArgs>([](Random& random, const Kernel<AddArgs>& kernel) {
    AddArgs args = {};
    args.ratio_a = random.one_in(3) ? 0.5f : random.log_uniform(1e-4, 1e4);
    args.ratio_b = random.one_in(3) ? -0.5f : random.log_uniform(1e-4, 1e4);
    compare_binary(random, kernel, args);
  });
}

EDGEKIT_TEST(mul_equals_the_reference) {
  for_each_kernel<MulArgs>([](Random& random, const Kernel<MulArgs>& kernel) {
    MulArgs args = {};
    args.multiplier = random.one_in(3) ? 0.125f : random.log_uniform(1e-6, 1e6);
    compare_binary(random, kernel, args);
  });
}

EDGEKIT_TEST(extreme_equals_the_reference) {
  for_each_kernel<ExtremeArgs>([](Random& random, const Kernel<ExtremeArgs>& kernel) {
    ExtremeArgs args = {};
    args.ratio_a = random.log_uniform(1e-3, 10);
    args.ratio_b = random.log_uniform(1e-3, 10);
    args.larger = random.one_in(2);
    compare_binary(random, kernel, args);
  });
}

EDGEKIT_TEST(quantize_equals_the_reference) {
  for_each_kernel<QuantizeArgs>([](Random& random, const Kernel<QuantizeArgs>& kernel) {
    QuantizeArgs args = {};
    args.pixels = random.one_in(4) ? random.size(250, 520) : random.size(1, 40);
    args.channels = random.size(1, 5);
    args.channel_step = args.pixels + random.size(0, 3);
    args.scale = random.one_in(3) ? 0.5f : random.log_uniform(1e-4, 10);
    test::pick_range(random, kernel.storage, &args.zero_point, &args.lo, &args.hi);
    GuardedBuffer<float> x((args.channels - 1) * args.channel_step + args.pixels);
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    for (float& v : x) {
      v = random.one_in(10) ? random.pick<float>({kInfinity, -kInfinity, NAN, 1e30f, -1e30f, -0.0f})
          : random.one_in(2)
              ? args.scale * 0.5f * static_cast<float>(random.integer(-300, 300))
              : args.scale * static_cast<float>(random.integer(-40000, 40000)) / 256.0f;
    }
    GuardedBuffer<uint8_t> y(args.pixels * args.channels);
    std::vector<uint8_t> expected(y.size());
    args.x = x.data();
    args.y = expected.data();
    reference_run(args, kernel.storage);
    args.y = y.data();
    kernel.run(args);
    EDGEKIT_CHECK(std::memcmp(y.data(), expected.data(), y.size()) == 0,
                  std::string(kernel.name) + " pixels " + std::to_string(args.pixels) +
                      " channels " + std::to_string(args.channels));
  });
}

EDGEKIT_TEST(quantize_parts_equals_the_reference) {
  for_each_kernel<QuantizePartsArgs>([](Random& random, const Kernel<QuantizePartsArgs>& kernel) {
    QuantizePartsArgs args = {};
    args.rows = random.size(1, 4);
    args.width = random.one_in(3) ? random.size(1, 20) : random.size(16, 70);
    args.parts = random.size(2, 3);
    args.inverse = random.one_in(3) ? 2.0f : random.log_uniform(1e-1, 1e4);
    const int32_t zero_point = static_cast<int32_t>(random.integer(-112, 111));
    args.zero_point = zero_point + storage_offset(kernel.storage);
    args.lo = static_cast<float>(random.integer(-128 - zero_point, 0));
    args.hi = static_cast<float>(random.integer(0, 127 - zero_point));
    GuardedBuffer<float> x(args.rows * args.width);
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    for (float& v : x) {
      v = random.one_in(10)
              ? random.pick<float>({kInfinity, -kInfinity, NAN, 1e30f, -1e30f, -0.0f})
              : static_cast<float>(random.integer(-300 * 32, 300 * 32)) / 32.0f / args.inverse;
    }
    GuardedBuffer<uint8_t> y(x.size() * args.parts);
    std::vector<uint8_t> expected(y.size());
    args.x = x.data();
    args.y = expected.data();
    reference_run(args, kernel.storage);
    args.y = y.data();
    kernel.run(args);
    EDGEKIT_CHECK(std::memcmp(y.data(), expected.data(), y.size()) == 0,
                  std::string(kernel.name) + " width " + std::to_string(args.width) + " parts " +
                      std::to_string(args.parts));
  });
}

EDGEKIT_TEST(dequantize_equals_the_reference) {
  for_each_kernel<DequantizeArgs>([](Random& random, const Kernel<DequantizeArgs>& kernel) {
    DequantizeArgs args = {};
    args.pixels = random.one_in(4) ? random.size(250, 520) : random.size(1, 40);
    args.channels = random.size(1, 5);
    args.channel_step = args.pixels + random.size(0, 3);
    args.scale = random.log_uniform(1e-4, 10);
    args.zero_point =
        static_cast<int32_t>(random.integer(-128, 127)) + storage_offset(kernel.storage);
    GuardedBuffer<uint8_t> x(args.pixels * args.channels);
    test::fill_bytes(random, x.data(), x.size());
    GuardedBuffer<float> y((args.channels - 1) * args.channel_step + args.pixels);
    std::fill(y.begin(), y.end(), -1.0f);
    std::vector<float> expected(y.size(), -1.0f);
    args.x = x.data();
    args.y = expected.data();
    reference_run(args, kernel.storage);
    args.y = y.data();
    kernel.run(args);
    EDGEKIT_CHECK(std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)) == 0,
                  std::string(kernel.name) + " pixels " + std::to_string(args.pixels) +
                      " channels " + std::to_string(args.channels));
  });
}

EDGEKIT_TEST(lookup_equals_the_reference) {
  for_each_kernel<LookupArgs>([](Random& random, const Kernel<LookupArgs>& kernel) {
    LookupArgs args = {};
    args.size = random.size(1, 300);
    GuardedBuffer<uint8_t> table(256);
    GuardedBuffer<uint8_t> x(args.size);
    std::vector<uint8_t> expected(args.size);
    test::fill_bytes(random, table.data(), table.size());
    test::fill_bytes(random, x.data(), x.size());
    args.table = table.data();
    args.x = x.data();
    args.y = expected.data();
    reference_run(args, kernel.storage);
    args.y = x.data();
    kernel.run(args);
    EDGEKIT_CHECK(std::memcmp(x.data(), expected.data(), args.size) == 0, kernel.name);
  });
}

}  // namespace
}  // namespace edgekit
