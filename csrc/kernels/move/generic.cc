// Strided copies in plain C++: memcpy where elements lie side by side, one load and one store an
// element elsewhere. Where rows lie side by side in x, as in a transpose, blocks of rows and
// columns use up each cache line while it is there.

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

/// Rows and elements of a block: its lines of x, 64 bytes each, stay in the first-level cache.
constexpr size_t kBlock = 16;

template <size_t size>
void move_blocks(const MoveArgs& args) {
  for (size_t r0 = 0; r0 < args.rows; r0 += kBlock) {
    const size_t r1 = r0 + kBlock < args.rows ? r0 + kBlock : args.rows;
    for (size_t i0 = 0; i0 < args.width; i0 += kBlock) {
      const size_t i1 = i0 + kBlock < args.width ? i0 + kBlock : args.width;
      for (size_t r = r0; r < r1; ++r) {
        const uint8_t* x = args.x + static_cast<ptrdiff_t>(r) * args.x_stride;
        uint8_t* y = args.y + r * args.y_stride;
        for (size_t i = i0; i < i1; ++i) {
          std::memcpy(y + i * size, x + static_cast<ptrdiff_t>(i) * args.x_step, size);
        }
      }
    }
  }
}

}  // namespace

void move_any_any_generic(const MoveArgs& args) {
  const bool dense = args.x_step == static_cast<ptrdiff_t>(args.element_size);
  const bool transposes = args.x_stride == static_cast<ptrdiff_t>(args.element_size);
  if (!dense && transposes && args.element_size == 4) return move_blocks<4>(args);
  if (!dense && transposes && args.element_size == 1) return move_blocks<1>(args);
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
