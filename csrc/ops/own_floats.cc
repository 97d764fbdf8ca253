#include "ops/own_floats.h"

#include <cstring>

#include "ops/check.h"

namespace edgekit {

float widen_half(uint16_t half) {
  const uint32_t sign = (half & 0x8000U) << 16;
  const uint32_t rest = half & 0x7FFFU;
  uint32_t bits = 0;
  if (rest >= 0x7C00U) {
    // Infinity, or a NaN with its payload.
    bits = 0x7F800000U | (rest & 0x3FFU) << 13;
  } else if (rest >= 0x400U) {
    bits = (rest << 13) + (112U << 23);
  } else {
    // A subnormal number: its digits in units of 2^-24, exactly.
    const float value = static_cast<float>(rest) * 0x1p-24F;
    std::memcpy(&bits, &value, sizeof bits);
  }
  bits |= sign;
  float widened = 0;
  std::memcpy(&widened, &bits, sizeof widened);
  return widened;
}

bool OwnFloats::init(const Blob& blob, size_t count, size_t bits, std::string* error) {
  if (bits != 16 && bits != 32) {
    return fail(error, {"float weights of ", std::to_string(bits), " bits are unknown"});
  }
  if (!check_blob(blob, count, bits / 8, "the weights", error)) return false;
  data_ = reinterpret_cast<const float*>(blob.data);
  if (bits == 32) return true;
  own_.resize(count);
  for (size_t i = 0; i < count; ++i) {
    uint16_t half = 0;
    std::memcpy(&half, blob.data + i * sizeof half, sizeof half);
    own_[i] = widen_half(half);
  }
  data_ = own_.data();
  return true;
}

}  // namespace edgekit
