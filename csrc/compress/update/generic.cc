#include "compress/update/loops.h"

// 2 rows of 8 columns in two lanes: 8 sums, 4 vectors of y and one of x, in 16 registers.

namespace edgekit::compress {

void update_f64_generic(const UpdateArgs& args) {
  for (size_t tile = 0; tile < args.tiles; ++tile) UpdateBlock<2, 2, 1>::run_rows(args, tile);
}

}  // namespace edgekit::compress
