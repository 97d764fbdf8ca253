#include "kernels/move/move.h"

namespace edgekit {

#define EDGEKIT_MOVE(function, isa, storage, have) void function(const MoveArgs& args);
#include "kernels/move/kernels.inc"

namespace {

constexpr Kernel<MoveArgs> kMove[] = {
#define EDGEKIT_MOVE(function, isa, storage, have) \
  {#function, Isa::isa, Storage::storage, EDGEKIT_RUN(have, function)},
#include "kernels/move/kernels.inc"
};

}  // namespace

template <>
KernelList<MoveArgs> kernels<MoveArgs>() {
  return {kMove, sizeof kMove / sizeof *kMove};
}

}  // namespace edgekit
