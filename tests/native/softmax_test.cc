#include "kernels/softmax/softmax.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "guarded_buffer.h"
#include "kernels/softmax/reference.h"
#include "random.h"
#include "random_codes.h"
#include "test.h"

namespace edgekit {
namespace {

using test::GuardedBuffer;
using test::Random;

constexpr int kCases = 300;

EDGEKIT_TEST(kernels_equal_the_reference) {
  const KernelList<SoftmaxArgs> list = kernels<SoftmaxArgs>();
  for (size_t i = 0; i < list.count; ++i) {
    const Kernel<SoftmaxArgs>& kernel = list.rows[i];
    if (!test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
    Random random(test::seed());
    for (int j = 0; j < kCases; ++j) {
      // A scale of 0 makes all equal, where ties occur.
      const double scale = random.one_in(4) ? 0 : random.log_uniform(1e-3, 1);
      uint32_t table[256];
      for (int d = 0; d < 256; ++d) {
        table[d] = static_cast<uint32_t>(std::nearbyint(0x1p30 * std::exp(-scale * d)));
      }
      const int32_t offset = storage_offset(kernel.storage);
      SoftmaxArgs args = {};
      args.rows = random.size(1, 4);
      args.n = random.one_in(20)   ? random.size(1000, 3000)
               : random.one_in(10) ? random.size(250, 330)
               : random.one_in(3)  ? random.size(60, 70)
                                   : random.size(1, 40);
      args.table = table;
      args.ratio = random.pick<uint64_t>({1 << 16, 1 << 24, uint64_t{1} << 33, 12345678});
      args.zero_point = static_cast<int32_t>(random.pick<int64_t>({-128, 0, 127})) + offset;
      args.lo = -128 + offset;
      args.hi = 127 + offset;
      GuardedBuffer<uint8_t> x(args.rows * args.n);
      test::fill_bytes(random, x.data(), x.size());
      std::vector<uint8_t> expected(x.size());
      args.x = x.data();
      args.y = expected.data();
      reference_run(args, kernel.storage);
      args.y = x.data();
      kernel.run(args);
      EDGEKIT_CHECK(std::memcmp(x.data(), expected.data(), x.size()) == 0,
                    std::string(kernel.name) + " rows " + std::to_string(args.rows) + " n " +
                        std::to_string(args.n));
      test::count_case(kernel.isa);
    }
  }
}

}  // namespace
}  // namespace edgekit
