#include "compress/update/loops.h"

// 8 rows of 24 columns in eight lanes: 24 sums, 3 vectors of y and one of x, in 32 registers.

namespace edgekit::compress {

void update_f64_x86_avx512vnni(const UpdateArgs& args) {
  size_t tile = 0;
  for (; tile + 3 <= args.tiles; tile += 3) UpdateBlock<8, 8, 3>::run_rows(args, tile);
  if (args.tiles - tile == 2) UpdateBlock<8, 8, 2>::run_rows(args, tile);
  if (args.tiles - tile == 1) UpdateBlock<8, 8, 1>::run_rows(args, tile);
}

}  // namespace edgekit::compress
