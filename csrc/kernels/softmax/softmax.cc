#include "kernels/softmax/softmax.h"

namespace edgekit {

#define EDGEKIT_SOFTMAX(function, isa, storage, have) void function(const SoftmaxArgs& args);
#include "kernels/softmax/kernels.inc"

namespace {

constexpr Kernel<SoftmaxArgs> kSoftmax[] = {
#define EDGEKIT_SOFTMAX(function, isa, storage, have) \
  {#function, Isa::isa, Storage::storage, EDGEKIT_RUN(have, function)},
#include "kernels/softmax/kernels.inc"
};

}  // namespace

template <>
KernelList<SoftmaxArgs> kernels<SoftmaxArgs>() {
  return {kSoftmax, sizeof kSoftmax / sizeof *kSoftmax};
}

}  // namespace edgekit
