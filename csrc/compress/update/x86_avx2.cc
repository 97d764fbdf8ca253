#include "compress/update/loops.h"

// 4 rows of 8 columns in four lanes: 8 sums, 2 vectors of y and one of x, in 16 registers.

namespace edgekit::compress {

void update_f64_x86_avx2(const UpdateArgs& args) {
  for (size_t tile = 0; tile < args.tiles; ++tile) UpdateBlock<4, 4, 1>::run_rows(args, tile);
}

}  // namespace edgekit::compress
