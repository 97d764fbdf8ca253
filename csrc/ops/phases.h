#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ops/tensor.h"
#include "ops/window.h"

namespace edgekit {

/// One phase of an axis of a transposed convolution: the outputs x with (x + pad) mod stride ==
/// phase, which are a plain convolution of some of the taps.
struct AxisPhase {
  /// The first of them, and how many there are.
  int64_t first = 0;
  int64_t count = 0;
  /// The input under its first output, for each tap in ascending order; the next output's is one
  /// further. Without taps one that is always outside.
  std::vector<int64_t> places;
};

/// The phases of both axes. Where `joined` the columns have one for all, whose outputs are as many
/// as the input's columns and whose tap is the input's column: each is kernel_w output pixels,
/// which lie side by side.
struct Phases {
  std::vector<AxisPhase> rows;
  std::vector<AxisPhase> columns;
  bool joined = false;
};

/// Whether the columns of a window lie side by side in the output, none outside: then, in a layer
/// of one group, the phases of a row are one multiplication, whose results lie side by side.
bool joins_columns(const Window& window, int64_t in_width, int64_t out_width);

/// Finds the phases of a transposed convolution from `input` to `output`, both of which
/// check_tensor() has passed. Checks that both are [n, h, w, c] of one batch and that the window
/// has sizes, and, before it takes time or memory, that the plan has constants for so many phases
/// and taps: `bias` an element of 4 bytes for each output channel of each phase, `weights` at least
/// a byte for each tap of each output channel.
bool find_phases(const Window& window, const TensorView& input, const TensorView& output,
                 uint32_t groups, const Blob& weights, const Blob& bias, Phases* phases,
                 std::string* error);

/// Cuts `size` bytes at *offset from `whole`, and moves *offset behind them; false where there are
/// fewer.
bool cut_phase(const Blob& whole, size_t size, size_t* offset, Blob* part);

}  // namespace edgekit
