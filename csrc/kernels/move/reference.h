#pragma once

#include "kernels/move/move.h"

namespace edgekit {

/// The strided copy as its equation says, a byte at a time.
inline void reference_run(const MoveArgs& args, Storage) {
  for (size_t r = 0; r < args.rows; ++r) {
    for (size_t i = 0; i < args.width; ++i) {
      for (size_t byte = 0; byte < args.element_size; ++byte) {
        const ptrdiff_t from =
            static_cast<ptrdiff_t>(r) * args.x_stride + static_cast<ptrdiff_t>(i) * args.x_step;
        args.y[r * args.y_stride + i * args.element_size + byte] =
            args.x[from + static_cast<ptrdiff_t>(byte)];
      }
    }
  }
}

}  // namespace edgekit
