#pragma once

#include "kernels/softmax/softmax.h"
#include "kernels/storage.h"

// Softmax in float64 where that surely rounds as the integers do, which is nearly everywhere.
// Internal linkage throughout: each instruction set compiles its own copy.

namespace edgekit {
namespace {

/// Returns clamp(zero_point + e * ratio / divisor, rounded to nearest, ties to even).
inline uint8_t share(const SoftmaxArgs& args, uint64_t e, uint64_t divisor) {
  const uint64_t product = e * args.ratio;
  uint64_t quotient = product / divisor;
  const uint64_t rest = product % divisor;
  const uint64_t lacking = divisor - rest;
  quotient += rest > lacking || (rest == lacking && quotient % 2 != 0);
  int64_t code = args.zero_point + static_cast<int64_t>(quotient);
  code = code > args.hi ? args.hi : code;
  code = code < args.lo ? args.lo : code;
  return static_cast<uint8_t>(code);
}

template <Storage storage>
int32_t maximum(const uint8_t* x, size_t n) {
  int32_t top = stored_value<storage>(x[0]);
  for (size_t i = 1; i < n; ++i) {
    const int32_t value = stored_value<storage>(x[i]);
    top = value > top ? value : top;
  }
  return top;
}

/// Elements whose exponentials lie side by side, for vector code.
constexpr size_t kBlock = 64;

/// Computes the codes of a block from their exponentials in float64, where a share is off by less
/// than 2^-40. Returns false where one comes so close to the middle between two codes that the
/// rounding could be wrong.
inline bool round_shares(const SoftmaxArgs& args, const int32_t* e, double factor, size_t size,
                         uint8_t* y) {
  // Rounds to even below 2^51. Larger shares end up above `hi` and are cut off before.
  constexpr double kRounder = 6755399441055744.0;
  constexpr double kLargest = 1024.0;
  constexpr double kClose = 0.5 - 0x1p-30;
  const int32_t zero_point = args.zero_point;
  const int32_t lo = args.lo;
  const int32_t hi = args.hi;
  int32_t codes[kBlock];
  int64_t close = 0;
  for (size_t i = 0; i < size; ++i) {
    double t = e[i] * factor;
    t = t < kLargest ? t : kLargest;
    const double rounded = (t + kRounder) - kRounder;
    const double off = t > rounded ? t - rounded : rounded - t;
    close |= off < kClose ? 0 : 1;
    codes[i] = zero_point + static_cast<int32_t>(rounded);
  }
  for (size_t i = 0; i < size; ++i) {
    const int32_t code = codes[i] > hi ? hi : codes[i];
    y[i] = static_cast<uint8_t>(code < lo ? lo : code);
  }
  return close == 0;
}

/// Codes that one byte can be.
constexpr size_t kCodes = 256;

/// Computes the codes of up to kBlock exponentials.
inline void find_shares(const SoftmaxArgs& args, const int32_t* e, uint64_t sum, size_t size,
                        uint8_t* y) {
  const uint64_t divisor = sum << 16u;
  const double factor = static_cast<double>(args.ratio) / static_cast<double>(divisor);
  if (round_shares(args, e, factor, size, y)) return;
  for (size_t i = 0; i < size; ++i) y[i] = share(args, static_cast<uint64_t>(e[i]), divisor);
}

/// Computes a short row element by element.
template <Storage storage>
void short_row(const SoftmaxArgs& args, const uint8_t* x, int32_t top, uint64_t sum, uint8_t* y) {
  for (size_t first = 0; first < args.n; first += kBlock) {
    const size_t size = args.n - first < kBlock ? args.n - first : kBlock;
    int32_t e[kBlock];
    for (size_t i = 0; i < size; ++i) {
      e[i] = static_cast<int32_t>(args.table[top - stored_value<storage>(x[first + i])]);
    }
    find_shares(args, e, sum, size, y + first);
  }
}

/// Writes what a row's elements become, by their stored bytes: all that have one value become one.
template <Storage storage>
void make_row_table(const SoftmaxArgs& args, int32_t top, uint64_t sum, uint8_t* table) {
  uint8_t codes[kCodes];
  for (size_t first = 0; first < kCodes; first += kBlock) {
    int32_t e[kBlock];
    for (size_t i = 0; i < kBlock; ++i) e[i] = static_cast<int32_t>(args.table[first + i]);
    find_shares(args, e, sum, kBlock, codes + first);
  }
  // Bytes above the largest do not occur; their place in the table does not matter.
  for (size_t byte = 0; byte < kCodes; ++byte) {
    const auto distance = top - stored_value<storage>(static_cast<uint8_t>(byte));
    table[byte] = codes[static_cast<uint8_t>(distance)];
  }
}

/// `look_up(n, x, table, y)` applies a table of 256 entries.
template <Storage storage, class LookUp>
void softmax(const SoftmaxArgs& args, LookUp look_up) {
  for (size_t r = 0; r < args.rows; ++r) {
    const uint8_t* x = args.x + r * args.n;
    uint8_t* y = args.y + r * args.n;
    const int32_t top = maximum<storage>(x, args.n);
    uint64_t sum = 0;
    for (size_t i = 0; i < args.n; ++i) sum += args.table[top - stored_value<storage>(x[i])];
    if (args.n <= kCodes) {
      short_row<storage>(args, x, top, sum, y);
    } else {
      uint8_t table[kCodes];
      make_row_table<storage>(args, top, sum, table);
      look_up(args.n, x, table, y);
    }
  }
}

}  // namespace
}  // namespace edgekit
