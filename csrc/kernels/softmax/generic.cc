// Softmax in plain C++. A row has at most 256 different codes, so at most 256 divisions.

#include "kernels/softmax/softmax.h"
#include "kernels/storage.h"

namespace edgekit {
namespace {

template <Storage storage>
void softmax_row(const SoftmaxArgs& args, const uint8_t* x, uint8_t* y) {
  uint32_t counts[256] = {};
  int32_t top = stored_value<storage>(x[0]);
  for (size_t i = 0; i < args.n; ++i) {
    const int32_t value = stored_value<storage>(x[i]);
    top = value > top ? value : top;
    ++counts[x[i]];
  }
  uint64_t sum = 0;
  for (size_t byte = 0; byte < 256; ++byte) {
    if (counts[byte] == 0) continue;
    sum += uint64_t{counts[byte]} *
           args.table[top - stored_value<storage>(static_cast<uint8_t>(byte))];
  }
  const uint64_t divisor = sum << 16u;
  uint8_t codes[256];
  for (size_t byte = 0; byte < 256; ++byte) {
    if (counts[byte] == 0) continue;
    const uint64_t product =
        args.table[top - stored_value<storage>(static_cast<uint8_t>(byte))] * args.ratio;
    uint64_t quotient = product / divisor;
    const uint64_t rest = product % divisor;
    const uint64_t lacking = divisor - rest;
    quotient += rest > lacking || (rest == lacking && quotient % 2 != 0);
    int64_t code = args.zero_point + static_cast<int64_t>(quotient);
    code = code > args.hi ? args.hi : code;
    code = code < args.lo ? args.lo : code;
    codes[byte] = static_cast<uint8_t>(code);
  }
  for (size_t i = 0; i < args.n; ++i) y[i] = codes[x[i]];
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
