#include "kernels/nibble_floats/nibble_floats.h"

namespace edgekit {

#define EDGEKIT_NIBBLE_FLOATS(function, isa, storage, have) \
  void function(const NibbleFloatsArgs& args);
#include "kernels/nibble_floats/kernels.inc"

namespace {

constexpr Kernel<NibbleFloatsArgs> kNibbleFloats[] = {
#define EDGEKIT_NIBBLE_FLOATS(function, isa, storage, have) \
  {#function, Isa::isa, Storage::storage, EDGEKIT_RUN(have, function)},
#include "kernels/nibble_floats/kernels.inc"
};

}  // namespace

template <>
KernelList<NibbleFloatsArgs> kernels<NibbleFloatsArgs>() {
  return {kNibbleFloats, sizeof kNibbleFloats / sizeof *kNibbleFloats};
}

}  // namespace edgekit
