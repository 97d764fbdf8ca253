#include "kernels/pool/loops.h"

namespace edgekit {

void max_pool_u8_u8_x86_avx2(const MaxPoolArgs& args) { max_pool<Storage::kU8>(args); }
void average_pool_u8_u8_x86_avx2(const AveragePoolArgs& args) { average_pool<Storage::kU8>(args); }
void global_mean_u8_u8_x86_avx2(const GlobalMeanArgs& args) { global_mean<Storage::kU8>(args); }

}  // namespace edgekit
