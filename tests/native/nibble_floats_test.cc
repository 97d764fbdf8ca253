#include "kernels/nibble_floats/nibble_floats.h"

#include <cstring>
#include <string>

#include "guarded_buffer.h"
#include "random.h"
#include "test.h"

namespace edgekit {
namespace {

using test::GuardedBuffer;
using test::Random;

EDGEKIT_TEST(kernels_equal_the_definition) {
  const KernelList<NibbleFloatsArgs> list = kernels<NibbleFloatsArgs>();
  for (size_t i = 0; i < list.count; ++i) {
    const Kernel<NibbleFloatsArgs>& kernel = list.rows[i];
    if (!test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
    Random random(test::seed());
    for (const size_t panel : {8u, 16u}) {
      for (size_t pairs = 0; pairs < 12; ++pairs) {
        GuardedBuffer<int8_t> w(pairs * panel);
        GuardedBuffer<float> scale(panel);
        GuardedBuffer<float> y(2 * pairs * panel);
        for (size_t b = 0; b < pairs * panel; ++b) {
          w.data()[b] = static_cast<int8_t>(random.integer(-128, 127));
        }
        for (size_t c = 0; c < panel; ++c) scale.data()[c] = random.log_uniform(1e-6, 1e3);
        kernel.run({pairs, panel, w.data(), scale.data(), y.data()});
        for (size_t b = 0; b < pairs * panel; ++b) {
          const int byte = w.data()[b];
          const int high = byte >= 0 ? byte / 16 : -((15 - byte) / 16);
          int low = byte - 16 * high;
          if (low > 7) low -= 16;
          const size_t at = b / panel * 2 * panel + b % panel;
          const float s = scale.data()[b % panel];
          const float expected[2] = {static_cast<float>(low) * s, static_cast<float>(high) * s};
          EDGEKIT_CHECK(y.data()[at] == expected[0] && y.data()[at + panel] == expected[1],
                        std::string(kernel.name) + " byte " + std::to_string(byte));
        }
        test::count_case(kernel.isa);
      }
    }
  }
  // The sets that have no kernel of their own take their parent's.
  test::require_cases({Isa::kX86AvxVnni, Isa::kX86Amx, Isa::kArmNeonDot, Isa::kArmI8mm});
}

}  // namespace
}  // namespace edgekit
