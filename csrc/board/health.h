#pragma once

#include <cstddef>
#include <cstdint>

namespace edgekit::board {

/// What a bundle did with its golden inputs on this device.
struct Health {
  /// Microseconds of the median run.
  uint64_t latency_us = 0;
  /// The most bytes that the program held.
  uint64_t memory = 0;
  /// Layers whose digests were compared.
  size_t layers = 0;
};

}  // namespace edgekit::board
