// Softmax in plain C++, in float64 where that surely rounds as the integers do, which is nearly
// everywhere.

#include "kernels/softmax/softmax.h"
#include "kernels/storage.h"

namespace edgekit {
namespace {

/// Returns clamp(zero_point + e * ratio / divisor, rounded to nearest, ties to even).
uint8_t share(const SoftmaxArgs& args, uint64_t e, uint64_t divisor) {
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
bool round_shares(const SoftmaxArgs& args, const int32_t* e, double factor, size_t size,
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

template <Storage storage>
void softmax_row(const SoftmaxArgs& args, const uint8_t* x, uint8_t* y) {
  const int32_t top = maximum<storage>(x, args.n);
  uint64_t sum = 0;
  for (size_t i = 0; i < args.n; ++i) sum += args.table[top - stored_value<storage>(x[i])];
  const double factor = static_cast<double>(args.ratio) / static_cast<double>(sum << 16u);
  // y may be x, so nothing is written before it is known to be right.
  uint8_t codes[kBlock];
  for (size_t first = 0; first < args.n; first += kBlock) {
    const size_t size = args.n - first < kBlock ? args.n - first : kBlock;
    int32_t e[kBlock];
    for (size_t i = 0; i < size; ++i) {
      e[i] = static_cast<int32_t>(args.table[top - stored_value<storage>(x[first + i])]);
    }
    if (round_shares(args, e, factor, size, codes)) {
      for (size_t i = 0; i < size; ++i) y[first + i] = codes[i];
    } else {
      for (size_t i = 0; i < size; ++i) {
        y[first + i] = share(args, static_cast<uint64_t>(e[i]), sum << 16u);
      }
    }
  }
}

template <Storage storage>
void softmax(const SoftmaxArgs& args) {
  for (size_t r = 0; r < args.rows; ++r) {
    softmax_row<storage>(args, args.x + r * args.n, args.y + r * args.n);
  }
}

}  // namespace

void softmax_s8_s8_generic(const SoftmaxArgs& args) { softmax<Storage::kS8>(args); }
void softmax_u8_u8_generic(const SoftmaxArgs& args) { softmax<Storage::kU8>(args); }

}  // namespace edgekit
