#include <cstring>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/store_scalar.h"
#include "kernels/storage.h"

// One row by one panel of 16 columns at a time, for any CPU; a block is 4 of k:
//
//   acc[16]  <-  a[4 of k, from step * 4 on]  x  w[16 columns][4 of k]
//
// The last four of a row may read what lies behind it: there weights are zeros.

namespace edgekit {
namespace {

constexpr size_t kNr = 16;
constexpr size_t kKr = 4;
constexpr size_t kBlock = kNr * kKr;

template <Storage storage>
void multiply(const uint8_t* a, const int8_t* w, int32_t* acc) {
  for (size_t i = 0; i < kKr; ++i) {
    const int32_t x = stored_value<storage>(a[i]);
    for (size_t c = 0; c < kNr; ++c) acc[c] += x * w[c * kKr + i];
  }
}

template <Storage storage>
void sparse_gemm(const GemmArgs& args) {
  for (size_t row = 0; row < args.m; ++row) {
    const uint32_t* starts = args.block_starts;
    for (size_t column = 0; column < args.n; column += kNr) {
      int32_t acc[kNr];
      std::memcpy(acc, args.bias + column, sizeof(acc));
      for (size_t t = 0; t < args.taps; ++t, ++starts) {
        const uint8_t* a =
            args.rows ? args.rows[row * args.taps + t] : args.a + row * args.a_stride;
        for (size_t b = starts[0]; b < starts[1]; ++b) {
          multiply<storage>(a + args.block_steps[b] * kKr, args.w + b * kBlock, acc);
        }
      }
      store_row<storage>(args, row, column, kNr, acc);
    }
  }
}

}  // namespace

void sparse_gemm_s8_s8c_s8_1x16c4_generic(const GemmArgs& args) { sparse_gemm<Storage::kS8>(args); }

void sparse_gemm_u8_s8c_u8_1x16c4_generic(const GemmArgs& args) { sparse_gemm<Storage::kU8>(args); }

}  // namespace edgekit
