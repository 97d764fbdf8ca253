#include "kernels/resize/resize.h"

namespace edgekit {

#define EDGEKIT_NEAREST_ROW(function, isa, storage, have) void function(const NearestRowArgs& args);
#define EDGEKIT_LINEAR_ROW(function, isa, storage, have) void function(const LinearRowArgs& args);
#include "kernels/resize/kernels.inc"

#define EDGEKIT_ROW(function, isa, storage, have) \
  {#function, Isa::isa, Storage::storage, EDGEKIT_RUN(have, function)},

namespace {

constexpr Kernel<NearestRowArgs> kNearestRow[] = {
#define EDGEKIT_NEAREST_ROW EDGEKIT_ROW
#include "kernels/resize/kernels.inc"
};

constexpr Kernel<LinearRowArgs> kLinearRow[] = {
#define EDGEKIT_LINEAR_ROW EDGEKIT_ROW
#include "kernels/resize/kernels.inc"
};

}  // namespace

template <>
KernelList<NearestRowArgs> kernels<NearestRowArgs>() {
  return {kNearestRow, sizeof kNearestRow / sizeof *kNearestRow};
}

template <>
KernelList<LinearRowArgs> kernels<LinearRowArgs>() {
  return {kLinearRow, sizeof kLinearRow / sizeof *kLinearRow};
}

}  // namespace edgekit
