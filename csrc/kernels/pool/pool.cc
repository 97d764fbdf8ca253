#include "kernels/pool/pool.h"

namespace edgekit {

#define EDGEKIT_MAX_POOL(function, isa, storage, have) void function(const MaxPoolArgs& args);
#define EDGEKIT_AVERAGE_POOL(function, isa, storage, have) \
  void function(const AveragePoolArgs& args);
#define EDGEKIT_GLOBAL_MEAN(function, isa, storage, have) void function(const GlobalMeanArgs& args);
#include "kernels/pool/kernels.inc"

#define EDGEKIT_ROW(function, isa, storage, have) \
  {#function, Isa::isa, Storage::storage, EDGEKIT_RUN(have, function)},

namespace {

constexpr Kernel<MaxPoolArgs> kMaxPool[] = {
#define EDGEKIT_MAX_POOL EDGEKIT_ROW
#include "kernels/pool/kernels.inc"
};

constexpr Kernel<AveragePoolArgs> kAveragePool[] = {
#define EDGEKIT_AVERAGE_POOL EDGEKIT_ROW
#include "kernels/pool/kernels.inc"
};

constexpr Kernel<GlobalMeanArgs> kGlobalMean[] = {
#define EDGEKIT_GLOBAL_MEAN EDGEKIT_ROW
#include "kernels/pool/kernels.inc"
};

}  // namespace

template <>
KernelList<MaxPoolArgs> kernels<MaxPoolArgs>() {
  return {kMaxPool, sizeof kMaxPool / sizeof *kMaxPool};
}

template <>
KernelList<AveragePoolArgs> kernels<AveragePoolArgs>() {
  return {kAveragePool, sizeof kAveragePool / sizeof *kAveragePool};
}

template <>
KernelList<GlobalMeanArgs> kernels<GlobalMeanArgs>() {
  return {kGlobalMean, sizeof kGlobalMean / sizeof *kGlobalMean};
}

}  // namespace edgekit
