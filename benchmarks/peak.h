#pragma once

#include "isa/isa.h"

namespace edgekit::benchmark {

/// A loop of multiply instructions on registers alone: what no kernel of that instruction set can
/// pass, however its operands get into registers.
struct Peak {
  Isa isa;
  /// The instructions, for the table.
  const char* instructions;
  /// Multiplies and adds in one call of `run`.
  double operations;
  void (*run)();
};

/// Returns the loop for `isa`, or for the nearest ancestor that has one; null where none has.
const Peak* find_peak(Isa isa);

}  // namespace edgekit::benchmark
