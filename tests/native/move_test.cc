#include "kernels/move/move.h"

#include <cstring>
#include <vector>

#include "guarded_buffer.h"
#include "kernels/move/reference.h"
#include "random.h"
#include "random_codes.h"
#include "test.h"

namespace edgekit {
namespace {

using test::GuardedBuffer;
using test::Random;

constexpr int kCases = 300;

EDGEKIT_TEST(kernels_equal_the_reference) {
  const KernelList<MoveArgs> list = kernels<MoveArgs>();
  for (size_t i = 0; i < list.count; ++i) {
    const Kernel<MoveArgs>& kernel = list.rows[i];
    if (!test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
    Random random(test::seed());
    for (int j = 0; j < kCases; ++j) {
      MoveArgs args = {};
      args.rows = random.size(1, 6);
      args.width = random.size(1, 40);
      args.element_size = random.pick<size_t>({1, 4, 8});
      const ptrdiff_t size = static_cast<ptrdiff_t>(args.element_size);
      const auto elements = [&](int64_t low, int64_t high) {
        return size * static_cast<ptrdiff_t>(random.integer(low, high));
      };
      args.x_step = random.one_in(2) ? size : elements(-3, 3);
      args.x_stride = elements(-50, 50);
      if (random.one_in(3)) {
        // A transposition, of a few tiles.
        args.rows = random.size(1, 70);
        args.width = random.size(1, 70);
        args.x_stride = size;
        args.x_step = elements(-90, 90);
        if (random.one_in(4)) args.width = 3;
      }
      args.y_stride = (args.width + random.size(0, 3)) * args.element_size;
      if (random.one_in(2)) args.y_stride = args.width * args.element_size;
      // The source spans what the signs of step and stride reach.
      const ptrdiff_t step_reach = static_cast<ptrdiff_t>(args.width - 1) * args.x_step;
      const ptrdiff_t stride_reach = static_cast<ptrdiff_t>(args.rows - 1) * args.x_stride;
      const ptrdiff_t before =
          std::min<ptrdiff_t>(step_reach, 0) + std::min<ptrdiff_t>(stride_reach, 0);
      const ptrdiff_t after =
          std::max<ptrdiff_t>(step_reach, 0) + std::max<ptrdiff_t>(stride_reach, 0);
      GuardedBuffer<uint8_t> x(static_cast<size_t>(after - before + size));
      test::fill_bytes(random, x.data(), x.size());
      GuardedBuffer<uint8_t> y((args.rows - 1) * args.y_stride + args.width * args.element_size);
      std::memset(y.data(), 0xA5, y.size());
      std::vector<uint8_t> expected(y.begin(), y.end());
      args.x = x.data() - before;
      args.y = expected.data();
      reference_run(args, kernel.storage);
      args.y = y.data();
      kernel.run(args);
      EDGEKIT_CHECK(std::memcmp(y.data(), expected.data(), y.size()) == 0,
                    std::string(kernel.name) + " rows " + std::to_string(args.rows) + " width " +
                        std::to_string(args.width) + " element " +
                        std::to_string(args.element_size) + " step " + std::to_string(args.x_step));
      test::count_case(kernel.isa);
    }
  }
}

}  // namespace
}  // namespace edgekit
