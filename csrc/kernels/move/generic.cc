// Strided copies in plain C++: memcpy where elements lie side by side, one load and one store an
// element elsewhere.

#include <cstring>

#include "kernels/move/move.h"

namespace edgekit {
namespace {

template <size_t size>
void move_elements(const MoveArgs& args, const uint8_t* x, uint8_t* y) {
  for (size_t i = 0; i < args.width; ++i) {
    std::memcpy(y + i * size, x + static_cast<ptrdiff_t>(i) * args.x_step, size);
  }
}

}  // namespace

void move_any_any_generic(const MoveArgs& args) {
  const bool dense = args.x_step == static_cast<ptrdiff_t>(args.element_size);
  for (size_t r = 0; r < args.rows; ++r) {
    const uint8_t* x = args.x + static_cast<ptrdiff_t>(r) * args.x_stride;
    uint8_t* y = args.y + r * args.y_stride;
    if (dense) {
      std::memcpy(y, x, args.width * args.element_size);
    } else if (args.element_size == 1) {
      move_elements<1>(args, x, y);
    } else if (args.element_size == 4) {
      move_elements<4>(args, x, y);
    } else {
      move_elements<8>(args, x, y);
    }
  }
}

}  // namespace edgekit
