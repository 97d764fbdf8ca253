#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace edgekit::test {

/// A small random generator (splitmix64) that gives the same numbers on every platform.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  /// Returns an integer in [low, high].
  int64_t integer(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(next() % static_cast<uint64_t>(high - low + 1));
  }

  /// Returns a size in [low, high].
  size_t size(size_t low, size_t high) {
    return low + static_cast<size_t>(next() % (high - low + 1));
  }

  /// Returns true once in `n` times.
  bool one_in(uint64_t n) { return next() % n == 0; }

  template <typename T>
  T pick(std::initializer_list<T> values) {
    return values.begin()[static_cast<size_t>(next() % values.size())];
  }

  /// Returns a float in [low, high) whose logarithm is spread evenly; 0 < low.
  float log_uniform(double low, double high) {
    const double unit = static_cast<double>(next() >> 11) * 0x1p-53;
    return static_cast<float>(low * std::exp(unit * std::log(high / low)));
  }

 private:
  uint64_t state_;
};

}  // namespace edgekit::test
