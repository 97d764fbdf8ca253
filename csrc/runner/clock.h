#pragma once

#include <time.h>

namespace edgekit::runner {

/// Returns the seconds since some moment in the past, which no change of the clock moves.
inline double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// A moment that never comes.
constexpr double kNever = 1e18;

}  // namespace edgekit::runner
