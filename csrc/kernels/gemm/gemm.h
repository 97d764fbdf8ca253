#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "isa/isa.h"
#include "kernels/requantize.h"

namespace edgekit {

/// The arguments of one call of a GEMM kernel, which serves fully connected layers, 1x1
/// convolutions and, through row pointers, every other convolution:
///
///   acc[m, c] = bias[c] + sum_t sum_k a[m, t, k] * w[c, t, k]         0 <= t < taps, 0 <= k < k
///   y[m, c]   = requantize(acc[m, c])                                 see Requantize
///
/// Layout. a holds stored activations. With `rows == nullptr` row m of tap t starts at
/// `a + m * a_stride + t * tap_step`, and only kernels with strided_taps take more than one tap;
/// otherwise it starts at `rows[m * taps + t]` (padding is a pointer to bytes that hold the zero
/// point). k bytes lie side by side. w is packed by pack_gemm() for the same kernel, from weights
/// in
/// [-127, 127], or in [-8, 7] where the kernel takes 4 bits of each: the sums are the same. y's row
/// m starts at `y + m * y_stride`.
///
/// Promised by the caller: every a row may be read for 64 bytes behind its k; w, bias and scale
/// come from pack_gemm() or have the same padding; y overlaps neither a nor the residual, and all
/// of y's n columns of the m rows may be written more than once (tails are computed by overlapping
/// tiles). Nothing needs an alignment; w is read fastest at a multiple of 64. Not promised by the
/// kernel: the order of its stores.
struct GemmArgs {
  size_t m;
  size_t n;
  size_t k;
  size_t taps;
  const uint8_t* a;
  size_t a_stride;
  size_t tap_step;
  const uint8_t* const* rows;
  const int8_t* w;
  /// What find_wide_steps() returned of w, or null: then nothing is known, and kernels that ask
  /// take more instructions for the same outputs.
  const uint8_t* wide_steps;
  /// Of a sparse kernel (kernels/sparse_gemm), which reads the blocks that w holds by them.
  const uint32_t* block_starts;
  const uint16_t* block_steps;
  /// Includes the zero point's share: bias[c] - stored_zero_point(x) * sum w[c]. Promised for
  /// weights of 4 bits: 16 times a partial sum stays in int32, in any order of summation.
  const int32_t* bias;
  Requantize requantize;
  Output output;
  void* y;
  size_t y_stride;
};

/// A row of kernels.inc, here or of sparse_gemm.
struct GemmKernel {
  const char* name;
  Isa isa;
  Storage storage;
  /// The tile: mr rows by nr columns; work is best split in multiples of them.
  uint16_t mr;
  uint16_t nr;
  /// Consecutive k that one multiply instruction takes; each tap's k is padded to a multiple with
  /// zero weights.
  uint16_t kr;
  /// Columns that one panel of w holds, at most nr.
  uint16_t panel;
  /// Of a packed weight: 8 or 4.
  uint16_t bits;
  Exactness exactness;
  /// Null when the kernel was not built into this binary.
  void (*run)(const GemmArgs& args);
  /// Whether it takes several taps without row pointers.
  bool strided_taps = false;
  /// Whether it takes blocks of nr columns by kr of k, packed by pack_sparse_gemm().
  bool sparse = false;
  /// Of a sparse kernel, consecutive k of a column that lie side by side in a block; it divides kr.
  uint16_t unit = 0;
};

/// Returns every kernel that is declared, built or not.
const GemmKernel* gemm_kernels(size_t* count);

/// Returns the kernel of that name, or null.
const GemmKernel* find_gemm_kernel(const char* name);

/// Returns the kernel for a problem with weights of that many bits, 8 or 4: a pure function of its
/// arguments, the same on every machine.
const GemmKernel& select_gemm(Isa isa, Storage storage, size_t m, size_t n, size_t k, size_t taps,
                              bool pair_sums_fit_16, size_t bits = 8);

/// Returns the bytes of packed weights: `[ceil(n/panel)][taps][ceil(k/kr)][panel][kr]`. Of weights
/// of 4 bits, each two steps along k, `[panel][kr]`, share their bytes: the first of them has the
/// lower halves. A step that is missing is zeros.
size_t packed_gemm_size(const GemmKernel& kernel, size_t n, size_t k, size_t taps);

/// Packs w `[n][taps][k]` (int8, row-major), missing columns and k as zeros. Weights for a kernel
/// of 4 bits must lie in [-8, 7].
void pack_gemm(const GemmKernel& kernel, const int8_t* w, size_t n, size_t k, size_t taps,
               int8_t* packed);

/// Returns sum |w| of each of the n columns that pack_gemm() packed.
std::vector<int64_t> sum_magnitudes(const GemmKernel& kernel, const int8_t* packed, size_t n,
                                    size_t k, size_t taps);

/// Returns, for a kernel that adds products of several k to a lane of int16, where it has to widen
/// them early: a byte for each panel, tap and step of kr, `[panels][taps][steps]`. Bit i is set
/// where four weights of a lane of columns 2 * i or 2 * i + 1 have magnitudes that add up to more
/// than 255, so that their products with codes may leave int16. Empty for any other kernel.
std::vector<uint8_t> find_wide_steps(const GemmKernel& kernel, const int8_t* packed, size_t n,
                                     size_t k, size_t taps);

/// Returns whether Exactness::kPairSumsFit16 holds for w `[n][taps][k]` packed with pairs along k.
bool pair_sums_fit_16(const int8_t* w, size_t n, size_t k, size_t taps);

}  // namespace edgekit
