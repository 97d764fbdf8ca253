#pragma once

namespace edgekit::compress {

/// Rounds to the nearest whole number, ties to even, where |x| < 2^51.
inline double round_even(double x) {
  constexpr double kShift = 0x1.8p52;
  return (x + kShift) - kShift;
}

}  // namespace edgekit::compress
