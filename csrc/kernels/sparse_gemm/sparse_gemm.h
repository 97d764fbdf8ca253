#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "isa/isa.h"
#include "kernels/gemm/gemm.h"

namespace edgekit {

/// Weights of which most blocks are zeros, for the GEMM of GemmArgs. A block is nr columns by kr of
/// k of one tap, as the kernel's row says; the others are not stored:
///
///   acc[m, c] = bias[c] + sum_t sum_b sum_i a[m, t, step(b) * kr + i] * w[b][i / unit][c % nr][i %
///   unit]
///
/// over the blocks b of tap t in panel c / nr, in the order of their steps. The bytes are those of
/// a dense kernel on the same weights.
///
/// Packed, from a multiple of 64 on, little-endian:
///
///   uint32  starts [panels * taps + 1]        blocks before those of a panel and tap; panels
///   outside uint16  steps [blocks]                    ascending within a panel and tap zeros up to
///   a multiple of 64 int8    w [blocks][kr / unit][nr][unit]   zeros behind n and k
///
/// with panels = ceil(n / nr) and blocks = starts[panels * taps].
struct SparseWeights {
  const uint32_t* starts;
  const uint16_t* steps;
  const int8_t* w;
};

/// Returns every sparse kernel that is declared, built or not.
const GemmKernel* sparse_gemm_kernels(size_t* count);

/// Returns the sparse kernel of that name, or null.
const GemmKernel* find_sparse_gemm_kernel(const char* name);

/// Returns the sparse kernel of an instruction set, or of the one that it contains: a pure function
/// of its arguments.
const GemmKernel& select_sparse_gemm(Isa isa, Storage storage, bool pair_sums_fit_16);

/// Returns whether the numbers of all steps along k fit 16 bits.
bool sparse_steps_fit(const GemmKernel& kernel, size_t k);

/// Returns how many blocks of w `[n][taps][k]` hold anything but zeros.
size_t count_blocks(const GemmKernel& kernel, const int8_t* w, size_t n, size_t k, size_t taps);

/// Packs w `[n][taps][k]` (int8, row-major), whose steps must fit.
std::vector<uint8_t> pack_sparse_gemm(const GemmKernel& kernel, const int8_t* w, size_t n, size_t k,
                                      size_t taps);

/// Returns where the parts of packed weights lie, which must be what pack_sparse_gemm() made.
SparseWeights sparse_weights(const GemmKernel& kernel, const uint8_t* packed, size_t n,
                             size_t taps);

/// Returns why bytes at a multiple of 4 are not packed weights of that shape, or null where they
/// are: a kernel then reads nothing outside of them and of the rows of a.
const char* check_sparse_gemm(const GemmKernel& kernel, const uint8_t* packed, size_t size,
                              size_t n, size_t k, size_t taps);

/// Returns sum |w| of each of the n columns.
std::vector<int64_t> sum_magnitudes(const GemmKernel& kernel, const SparseWeights& weights,
                                    size_t n, size_t taps);

}  // namespace edgekit
