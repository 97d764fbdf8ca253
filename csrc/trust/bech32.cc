#include "trust/bech32.h"

#include <algorithm>
#include <cstddef>

namespace edgekit {
namespace {

constexpr std::string_view kDigits = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
constexpr size_t kBytes = 32;
// 256 bits in digits of 5, of which the last 4 bits are 0.
constexpr size_t kDataDigits = 52;
constexpr size_t kCheckDigits = 6;

class Checksum {
 public:
  void add(unsigned digit) {
    constexpr uint32_t kGenerator[5] = {0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3};
    const uint32_t top = sum_ >> 25;
    sum_ = (sum_ & 0x1ffffff) << 5 ^ digit;
    for (size_t i = 0; i < 5; ++i) {
      if ((top >> i & 1) != 0) sum_ ^= kGenerator[i];
    }
  }
  void add_prefix(std::string_view prefix) {
    for (const char c : prefix) add(static_cast<uint8_t>(c) >> 5);
    add(0);
    for (const char c : prefix) add(static_cast<uint8_t>(c) & 31);
  }
  uint32_t sum() const { return sum_; }

 private:
  uint32_t sum_ = 1;
};

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

std::string format_bech32(std::string_view prefix, const uint8_t bytes[32]) {
  Checksum checksum;
  checksum.add_prefix(prefix);
  std::string text = std::string(prefix) + '1';
  unsigned bits = 0, held = 0;
  for (size_t i = 0, next = 0; i < kDataDigits; ++i) {
    if (held < 5) {
      bits = bits << 8 | (next < kBytes ? bytes[next] : 0U);
      ++next;
      held += 8;
    }
    held -= 5;
    const unsigned digit = bits >> held & 31;
    checksum.add(digit);
    text += kDigits[digit];
  }
  for (size_t i = 0; i < kCheckDigits; ++i) checksum.add(0);
  const uint32_t sum = checksum.sum() ^ 1;
  for (size_t i = 0; i < kCheckDigits; ++i) text += kDigits[sum >> (5 * (5 - i)) & 31];
  return text;
}

bool parse_bech32(std::string_view text, std::string_view prefix, uint8_t bytes[32]) {
  if (text.size() != prefix.size() + 1 + kDataDigits + kCheckDigits) return false;
  std::string lowered(text);
  std::transform(text.begin(), text.end(), lowered.begin(), lower);
  const bool has_upper = lowered != text;
  const bool has_lower =
      std::any_of(text.begin(), text.end(), [](char c) { return c >= 'a' && c <= 'z'; });
  if ((has_upper && has_lower) || lowered.compare(0, prefix.size(), prefix) != 0 ||
      lowered[prefix.size()] != '1') {
    return false;
  }
  Checksum checksum;
  checksum.add_prefix(prefix);
  unsigned bits = 0, held = 0;
  size_t filled = 0;
  for (size_t i = 0; i < kDataDigits + kCheckDigits; ++i) {
    const size_t digit = kDigits.find(lowered[prefix.size() + 1 + i]);
    if (digit == std::string_view::npos) return false;
    checksum.add(static_cast<unsigned>(digit));
    if (i >= kDataDigits) continue;
    bits = bits << 5 | static_cast<unsigned>(digit);
    held += 5;
    if (held < 8) continue;
    held -= 8;
    bytes[filled++] = static_cast<uint8_t>(bits >> held);
  }
  return checksum.sum() == 1 && (bits & ((1U << held) - 1)) == 0;
}

}  // namespace edgekit
