#include <cstring>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/store_scalar.h"
#include "kernels/nibbles.h"
#include "kernels/storage.h"

// One row by one panel of 16 columns at a time, for any CPU:
//
//   acc[16]  <-  a[4 of k]  x  w[16 columns][4 of k]
//
// k is padded to fours by zero weights, so the last four of a row may read what lies behind it.
// Weights of 4 bits are padded to eights, of which the second four lie in the upper halves of the
// bytes.

namespace edgekit {
namespace {

constexpr size_t kNr = 16;
constexpr size_t kKr = 4;

/// acc += four of k, from a on.
template <Storage storage, typename Weight>
void multiply(const uint8_t* a, Weight weight, int32_t* acc) {
  for (size_t i = 0; i < kKr; ++i) {
    const int32_t x = stored_value<storage>(a[i]);
    for (size_t c = 0; c < kNr; ++c) acc[c] += x * weight(c * kKr + i);
  }
}

template <Storage storage, size_t kBits>
void gemm(const GemmArgs& args) {
  constexpr size_t kStep = kKr * 8 / kBits;
  const size_t steps = (args.k + kStep - 1) / kStep;
  for (size_t row = 0; row < args.m; ++row) {
    const int8_t* w = args.w;
    for (size_t column = 0; column < args.n; column += kNr) {
      int32_t acc[kNr];
      std::memcpy(acc, args.bias + column, sizeof(acc));
      for (size_t t = 0; t < args.taps; ++t) {
        const uint8_t* a =
            args.rows ? args.rows[row * args.taps + t] : args.a + row * args.a_stride;
        for (size_t step = 0; step < steps; ++step, a += kStep, w += kNr * kKr) {
          if constexpr (kBits == 8) {
            multiply<storage>(a, [w](size_t i) { return int32_t{w[i]}; }, acc);
          } else {
            multiply<storage>(a, [w](size_t i) { return int32_t{low_nibble(w[i])}; }, acc);
            multiply<storage>(a + kKr, [w](size_t i) { return int32_t{high_nibble(w[i])}; }, acc);
          }
        }
      }
      store_row<storage>(args, row, column, kNr, acc);
    }
  }
}

}  // namespace

void gemm_s8_s8c_s8_1x16c4_generic(const GemmArgs& args) { gemm<Storage::kS8, 8>(args); }

void gemm_u8_s8c_u8_1x16c4_generic(const GemmArgs& args) { gemm<Storage::kU8, 8>(args); }

void gemm_s8_s4c_s8_1x16c4_generic(const GemmArgs& args) { gemm<Storage::kS8, 4>(args); }

void gemm_u8_s4c_u8_1x16c4_generic(const GemmArgs& args) { gemm<Storage::kU8, 4>(args); }

}  // namespace edgekit
