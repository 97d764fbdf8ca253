#include "kernels/nibble_floats/nibble_floats.h"
#include "kernels/nibbles.h"

namespace edgekit {

void nibble_floats_s4c_f32_generic(const NibbleFloatsArgs& args) {
  const int8_t* w = args.w;
  float* y = args.y;
  for (size_t j = 0; j < args.pairs; ++j, w += args.panel, y += 2 * args.panel) {
    for (size_t c = 0; c < args.panel; ++c) {
      y[c] = static_cast<float>(low_nibble(w[c])) * args.scale[c];
      y[args.panel + c] = static_cast<float>(high_nibble(w[c])) * args.scale[c];
    }
  }
}

}  // namespace edgekit
