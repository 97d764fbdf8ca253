#include "kernels/wide/loops.h"

namespace edgekit {

void wide_codes_x86_avx512vnni(const WideCodesArgs& args) { make_codes(args); }
void wide_bytes_x86_avx512vnni(const WideBytesArgs& args) { make_bytes(args); }
void wide_products_x86_avx512vnni(const WideProductsArgs& args) { add_products(args); }
void wide_finish_x86_avx512vnni(const WideFinishArgs& args) { finish(args); }

}  // namespace edgekit
