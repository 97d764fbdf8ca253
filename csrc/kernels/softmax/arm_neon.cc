#include "kernels/elementwise/elementwise.h"
#include "kernels/softmax/loops.h"

// The loops of the generic kernel, which the compiler vectorizes, and tables in registers.

namespace edgekit {

void lookup_x8_x8_arm_neon(const LookupArgs& args);

namespace {

void look_up(size_t n, const uint8_t* x, const uint8_t* table, uint8_t* y) {
  lookup_x8_x8_arm_neon({n, x, y, table});
}

}  // namespace

void softmax_s8_s8_arm_neon(const SoftmaxArgs& args) { softmax<Storage::kS8>(args, look_up); }

}  // namespace edgekit
