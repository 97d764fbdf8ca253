#pragma once

#include <algorithm>

#include "kernels/softmax/softmax.h"
#include "kernels/storage.h"

namespace edgekit {

/// Softmax as docs/arithmetic.md writes it, an element at a time.
inline void reference_run(const SoftmaxArgs& args, Storage storage) {
  for (size_t r = 0; r < args.rows; ++r) {
    const uint8_t* x = args.x + r * args.n;
    int32_t top = stored_value(storage, x[0]);
    for (size_t i = 0; i < args.n; ++i) top = std::max(top, stored_value(storage, x[i]));
    uint64_t sum = 0;
    for (size_t i = 0; i < args.n; ++i) sum += args.table[top - stored_value(storage, x[i])];
    const uint64_t divisor = sum << 16;
    for (size_t i = 0; i < args.n; ++i) {
      const uint64_t product = args.table[top - stored_value(storage, x[i])] * args.ratio;
      uint64_t t = product / divisor;
      const uint64_t rest = product - t * divisor;
      if (rest > divisor - rest || (rest == divisor - rest && t % 2 == 1)) ++t;
      const int64_t code = args.zero_point + static_cast<int64_t>(t);
      args.y[r * args.n + i] = static_cast<uint8_t>(std::clamp<int64_t>(code, args.lo, args.hi));
    }
  }
}

}  // namespace edgekit
