#include "kernels/pool/loops.h"

namespace edgekit {

void max_pool_s8_s8_generic(const MaxPoolArgs& args) { max_pool<Storage::kS8>(args); }
void max_pool_u8_u8_generic(const MaxPoolArgs& args) { max_pool<Storage::kU8>(args); }
void average_pool_s8_s8_generic(const AveragePoolArgs& args) { average_pool<Storage::kS8>(args); }
void average_pool_u8_u8_generic(const AveragePoolArgs& args) { average_pool<Storage::kU8>(args); }
void global_mean_s8_s8_generic(const GlobalMeanArgs& args) { global_mean<Storage::kS8>(args); }
void global_mean_u8_u8_generic(const GlobalMeanArgs& args) { global_mean<Storage::kU8>(args); }

}  // namespace edgekit
