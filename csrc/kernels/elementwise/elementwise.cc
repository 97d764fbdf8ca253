#include "kernels/elementwise/elementwise.h"

namespace edgekit {

#define EDGEKIT_ADD(function, isa, storage, have) void function(const AddArgs& args);
#define EDGEKIT_MUL(function, isa, storage, have) void function(const MulArgs& args);
#define EDGEKIT_EXTREME(function, isa, storage, have) void function(const ExtremeArgs& args);
#define EDGEKIT_QUANTIZE(function, isa, storage, have) void function(const QuantizeArgs& args);
#define EDGEKIT_QUANTIZE_PARTS(function, isa, storage, have) \
  void function(const QuantizePartsArgs& args);
#define EDGEKIT_DEQUANTIZE(function, isa, storage, have) void function(const DequantizeArgs& args);
#define EDGEKIT_LOOKUP(function, isa, storage, have) void function(const LookupArgs& args);
#include "kernels/elementwise/kernels.inc"

#define EDGEKIT_ROW(function, isa, storage, have) \
  {#function, Isa::isa, Storage::storage, EDGEKIT_RUN(have, function)},

namespace {

constexpr Kernel<AddArgs> kAdd[] = {
#define EDGEKIT_ADD EDGEKIT_ROW
#include "kernels/elementwise/kernels.inc"
};

constexpr Kernel<MulArgs> kMul[] = {
#define EDGEKIT_MUL EDGEKIT_ROW
#include "kernels/elementwise/kernels.inc"
};

constexpr Kernel<ExtremeArgs> kExtreme[] = {
#define EDGEKIT_EXTREME EDGEKIT_ROW
#include "kernels/elementwise/kernels.inc"
};

constexpr Kernel<QuantizeArgs> kQuantize[] = {
#define EDGEKIT_QUANTIZE EDGEKIT_ROW
#include "kernels/elementwise/kernels.inc"
};

constexpr Kernel<QuantizePartsArgs> kQuantizeParts[] = {
#define EDGEKIT_QUANTIZE_PARTS EDGEKIT_ROW
#include "kernels/elementwise/kernels.inc"
};

constexpr Kernel<DequantizeArgs> kDequantize[] = {
#define EDGEKIT_DEQUANTIZE EDGEKIT_ROW
#include "kernels/elementwise/kernels.inc"
};

constexpr Kernel<LookupArgs> kLookup[] = {
#define EDGEKIT_LOOKUP EDGEKIT_ROW
#include "kernels/elementwise/kernels.inc"
};

}  // namespace

template <>
KernelList<AddArgs> kernels<AddArgs>() {
  return {kAdd, sizeof kAdd / sizeof *kAdd};
}

template <>
KernelList<MulArgs> kernels<MulArgs>() {
  return {kMul, sizeof kMul / sizeof *kMul};
}

template <>
KernelList<ExtremeArgs> kernels<ExtremeArgs>() {
  return {kExtreme, sizeof kExtreme / sizeof *kExtreme};
}

template <>
KernelList<QuantizeArgs> kernels<QuantizeArgs>() {
  return {kQuantize, sizeof kQuantize / sizeof *kQuantize};
}

template <>
KernelList<QuantizePartsArgs> kernels<QuantizePartsArgs>() {
  return {kQuantizeParts, sizeof kQuantizeParts / sizeof *kQuantizeParts};
}

template <>
KernelList<DequantizeArgs> kernels<DequantizeArgs>() {
  return {kDequantize, sizeof kDequantize / sizeof *kDequantize};
}

template <>
KernelList<LookupArgs> kernels<LookupArgs>() {
  return {kLookup, sizeof kLookup / sizeof *kLookup};
}

}  // namespace edgekit
