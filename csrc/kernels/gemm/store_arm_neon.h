#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"

namespace edgekit {

/// Columns of the tiles that store_rows_arm_neon() writes.
constexpr size_t kStoredColumns = 16;

/// Writes the outputs of `rows` rows from `row` on, of kStoredColumns sums each, from `column` on:
/// outputs of every kind, with a residual or without, and of a panel that n cuts off.
///
/// One program for all NEON kernels, whatever their instruction set: it needs nothing but NEON.
void store_rows_arm_neon(const GemmArgs& args, const int32_t* sums, size_t rows, size_t row,
                         size_t column);

}  // namespace edgekit
