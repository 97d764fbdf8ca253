#pragma once

#include <cstddef>

namespace edgekit {

/// What parts of a thread's scratch begin at multiples of.
constexpr size_t kLineSize = 64;

/// Returns the least multiple of `unit` that is no less than `value`.
constexpr size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace edgekit
