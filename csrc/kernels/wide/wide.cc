#include "kernels/wide/wide.h"

#include "kernels/kernel_list.h"

namespace edgekit {

#define EDGEKIT_WIDE(token, isa, have)                      \
  void wide_codes_##token(const WideCodesArgs& args);       \
  void wide_bytes_##token(const WideBytesArgs& args);       \
  void wide_products_##token(const WideProductsArgs& args); \
  void wide_finish_##token(const WideFinishArgs& args);
#include "kernels/wide/kernels.inc"
#undef EDGEKIT_WIDE

namespace {

constexpr WideKernels kKernels[] = {
#define EDGEKIT_WIDE(token, isa, have)       \
  {#token,                                   \
   Isa::isa,                                 \
   (have) != 0,                              \
   EDGEKIT_RUN(have, wide_codes_##token),    \
   EDGEKIT_RUN(have, wide_bytes_##token),    \
   EDGEKIT_RUN(have, wide_products_##token), \
   EDGEKIT_RUN(have, wide_finish_##token)},
#include "kernels/wide/kernels.inc"
#undef EDGEKIT_WIDE
};

}  // namespace

const WideKernels& select_wide(Isa isa) {
  const WideKernels* found = kKernels;
  for (const WideKernels& row : kKernels) {
    if (row.built && isa_contains(isa, row.isa)) found = &row;
  }
  return *found;
}

}  // namespace edgekit
