#include "kernels/softmax/loops.h"

// Softmax in plain C++.

namespace edgekit {
namespace {

void look_up(size_t n, const uint8_t* x, const uint8_t* table, uint8_t* y) {
  for (size_t i = 0; i < n; ++i) y[i] = table[x[i]];
}

}  // namespace

void softmax_s8_s8_generic(const SoftmaxArgs& args) { softmax<Storage::kS8>(args, look_up); }
void softmax_u8_u8_generic(const SoftmaxArgs& args) { softmax<Storage::kU8>(args, look_up); }

}  // namespace edgekit
