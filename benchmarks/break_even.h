#pragma once

#include <vector>

#include "gemm_contestant.h"
#include "kernels/gemm/gemm.h"

namespace edgekit::benchmark {

/// Prints rows of converters/prune/break_even.toml: for each shape (for none, those of the table)
/// and each instruction set with a sparse kernel, the straight line through its times over the
/// density, in parts of the time of the fastest dense kernel of that set.
///
/// The line is the least-squares fit of medians that were taken in turns. No row is printed where
/// the sparse kernel is slower even without a block.
void print_break_even(const std::vector<GemmShape>& shapes,
                      const std::vector<const GemmKernel*>& dense,
                      const std::vector<const GemmKernel*>& sparse);

}  // namespace edgekit::benchmark
