#include "kernels/wide/loops.h"

namespace edgekit {

void wide_codes_generic(const WideCodesArgs& args) { make_codes(args); }
void wide_bytes_generic(const WideBytesArgs& args) { make_bytes(args); }
void wide_products_generic(const WideProductsArgs& args) { add_products(args); }
void wide_finish_generic(const WideFinishArgs& args) { finish(args); }

}  // namespace edgekit
