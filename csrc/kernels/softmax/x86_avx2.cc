#include "kernels/elementwise/elementwise.h"
#include "kernels/softmax/loops.h"

// The loops of the generic kernel, which the compiler vectorizes, and tables by shuffles.

namespace edgekit {

void lookup_x8_x8_x86_avx2(const LookupArgs& args);

namespace {

void look_up(size_t n, const uint8_t* x, const uint8_t* table, uint8_t* y) {
  lookup_x8_x8_x86_avx2({n, x, y, table});
}

}  // namespace

void softmax_u8_u8_x86_avx2(const SoftmaxArgs& args) { softmax<Storage::kU8>(args, look_up); }

}  // namespace edgekit
