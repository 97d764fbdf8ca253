#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/sparse_gemm/tiles_arm_neon.h"

namespace edgekit {
namespace {

// Registers of a full tile: 4 rows by 16 columns of int32 in 16 of them, the block's weights in 4,
// products in 4, and the block's 4 of k of each row, which lie anywhere along it, in 8:
//
//   ld2r   {x.8h, y.8h}, [row]     k 0 and 1 again and again, and k 2 and 3
//   smull  p.8h, x.8b, v.8b        k 0 and 1 of four columns; smull2 for the next four
//   smlal  p.8h, y.8b, w.8b        k 2 and 3
//   sadalp acc.4s, p.8h            widened: two products always fit int16
//
// Of the weights, two registers hold k 0 and 1 of 16 columns, v, and two k 2 and 3, w.
//
// A block: 1 load of its number, 1 of w, 4 of a, 32 multiplications of 8 products and 16 that
// widen.

// What g++ keeps in these registers without copying it to others.
#define EDGEKIT_LANES(name, place) register int8x16_t name asm(place)
#define EDGEKIT_SPREAD(x, y, row)          \
  asm volatile("ld2r {%0.8h, %1.8h}, [%2]" \
               : "=w"(x), "=w"(y)          \
               : "r"(row), "m"(*reinterpret_cast<const int8_t (*)[4]>(row)))
#define EDGEKIT_LOAD_BLOCK(next)                                    \
  EDGEKIT_LANES(w0, "v28");                                         \
  EDGEKIT_LANES(w1, "v29");                                         \
  EDGEKIT_LANES(w2, "v30");                                         \
  EDGEKIT_LANES(w3, "v31");                                         \
  asm volatile("ld1 {%0.16b, %1.16b, %2.16b, %3.16b}, [%4], #64"    \
               : "=w"(w0), "=w"(w1), "=w"(w2), "=w"(w3), "+r"(next) \
               : "m"(*reinterpret_cast<const int8_t (*)[64]>(next)))
#define EDGEKIT_MULTIPLY(low, add, half, v, w, column)                                            \
  asm volatile(low " %[p0].8h, %[x0]." half ", %[a]." half "\n\t" low " %[p1].8h, %[x1]." half    \
                   ", %[a]." half "\n\t" low " %[p2].8h, %[x2]." half ", %[a]." half "\n\t" low   \
                   " %[p3].8h, %[x3]." half ", %[a]." half "\n\t" add " %[p0].8h, %[y0]." half    \
                   ", %[b]." half "\n\t" add " %[p1].8h, %[y1]." half ", %[b]." half "\n\t" add   \
                   " %[p2].8h, %[y2]." half ", %[b]." half "\n\t" add " %[p3].8h, %[y3]." half    \
                   ", %[b]." half                                                                 \
                   "\n\t"                                                                         \
                   "sadalp %[c0].4s, %[p0].8h\n\t"                                                \
                   "sadalp %[c1].4s, %[p1].8h\n\t"                                                \
                   "sadalp %[c2].4s, %[p2].8h\n\t"                                                \
                   "sadalp %[c3].4s, %[p3].8h"                                                    \
               : [p0] "=&w"(p[0]), [p1] "=&w"(p[1]), [p2] "=&w"(p[2]), [p3] "=&w"(p[3]),          \
                 [c0] "+w"(acc[0][column]), [c1] "+w"(acc[1][column]), [c2] "+w"(acc[2][column]), \
                 [c3] "+w"(acc[3][column])                                                        \
               : [x0] "w"(x0), [x1] "w"(x1), [x2] "w"(x2), [x3] "w"(x3), [y0] "w"(y0),            \
                 [y1] "w"(y1), [y2] "w"(y2), [y3] "w"(y3), [a] "w"(v), [b] "w"(w))

struct PlainTile {
  static constexpr size_t kMr = 4;
  // Its products take all registers: g++ would move sums to the stack.
  static constexpr bool kFuses = false;

  /// Adds the products of the block w with the 4 of k of number `step`, and moves w behind it.
  template <size_t kVectors>
  static EDGEKIT_INLINE void multiply(int32x4_t (&acc)[kMr][kVectors],
                                      const int8_t* const (&rows)[kMr], size_t step,
                                      const int8_t*& next_w) {
    EDGEKIT_LOAD_BLOCK(next_w);
    EDGEKIT_LANES(x0, "v24");
    EDGEKIT_LANES(y0, "v25");
    EDGEKIT_LANES(x1, "v26");
    EDGEKIT_LANES(y1, "v27");
    EDGEKIT_LANES(x2, "v8");
    EDGEKIT_LANES(y2, "v9");
    EDGEKIT_LANES(x3, "v10");
    EDGEKIT_LANES(y3, "v11");
    const size_t offset = kKr * step;
    EDGEKIT_SPREAD(x0, y0, rows[0] + offset);
    EDGEKIT_SPREAD(x1, y1, rows[1] + offset);
    EDGEKIT_SPREAD(x2, y2, rows[2] + offset);
    EDGEKIT_SPREAD(x3, y3, rows[3] + offset);
    int16x8_t p[kMr];
    EDGEKIT_MULTIPLY("smull", "smlal", "8b", w0, w2, 0);
    EDGEKIT_MULTIPLY("smull2", "smlal2", "16b", w0, w2, 1);
    if constexpr (kVectors == 4) {
      EDGEKIT_MULTIPLY("smull", "smlal", "8b", w1, w3, 2);
      EDGEKIT_MULTIPLY("smull2", "smlal2", "16b", w1, w3, 3);
    }
  }

  /// The same for one row.
  static EDGEKIT_INLINE void multiply(int32x4_t (&acc)[1][4], const int8_t* const (&rows)[1],
                                      size_t step, const int8_t*& next_w) {
    EDGEKIT_LOAD_BLOCK(next_w);
    EDGEKIT_LANES(x, "v24");
    EDGEKIT_LANES(y, "v25");
    EDGEKIT_SPREAD(x, y, rows[0] + kKr * step);
    int16x8_t products[4] = {multiply_low(x, w0), multiply_high(x, w0), multiply_low(x, w1),
                             multiply_high(x, w1)};
    add_multiply_low(products[0], y, w2);
    add_multiply_high(products[1], y, w2);
    add_multiply_low(products[2], y, w3);
    add_multiply_high(products[3], y, w3);
    EDGEKIT_UNROLL
    for (size_t v = 0; v < 4; ++v) add_pairs(acc[0][v], products[v]);
  }
};

}  // namespace

void sparse_gemm_s8_s8c_s8_4x16c4_arm_neon(const GemmArgs& args) { run_sparse<PlainTile>(args); }

}  // namespace edgekit
