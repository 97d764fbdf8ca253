#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace edgekit {

// Adaptive binary range coding (G. N. N. Martin, "Range encoding", 1979; the carry and the update
// of probabilities as in Igor Pavlov's LZMA specification): a bit costs what its probability says,
// and the probability follows the bits.

/// Probability that the next bit is 0, in 1/32768: the mean of one that follows fast what changes
/// and one that is exact where nothing does.
struct BitModel {
  uint16_t fast = 1 << 14;
  uint16_t slow = 1 << 14;

  uint32_t zero() const { return (uint32_t{fast} + slow) >> 1; }

  void learn(unsigned bit) {
    if (bit == 0) {
      fast = static_cast<uint16_t>(fast + ((32768 - fast) >> 5));
      slow = static_cast<uint16_t>(slow + ((32768 - slow) >> 8));
    } else {
      fast = static_cast<uint16_t>(fast - (fast >> 5));
      slow = static_cast<uint16_t>(slow - (slow >> 8));
    }
  }
};
inline constexpr int kModelBits = 15;
inline constexpr uint32_t kLeastRange = uint32_t{1} << 24;

/// Models of a number of `Bits` bits, from the highest bit on, each under the bits before it.
template <int Bits>
struct BitTree {
  BitModel models[size_t{1} << Bits];
};

/// Writes bits.
class RangeEncoder {
 public:
  explicit RangeEncoder(std::string* out) : out_(out) {}

  void put(BitModel* model, unsigned bit) {
    const uint32_t bound = (range_ >> kModelBits) * model->zero();
    if (bit == 0) {
      range_ = bound;
    } else {
      low_ += bound;
      range_ -= bound;
    }
    model->learn(bit);
    normalize();
  }

  template <int Bits>
  void put(BitTree<Bits>* tree, unsigned value) {
    unsigned node = 1;
    for (int i = Bits - 1; i >= 0; --i) {
      const unsigned bit = value >> i & 1;
      put(&tree->models[node], bit);
      node = node << 1 | bit;
    }
  }

  /// Writes the lowest `count` bits of `value`, each as likely 0 as 1.
  void put_plain(uint64_t value, int count) {
    for (int i = count - 1; i >= 0; --i) {
      range_ >>= 1;
      if ((value >> i & 1) != 0) low_ += range_;
      normalize();
    }
  }

  void finish() {
    for (int i = 0; i < 5; ++i) shift();
  }

 private:
  void normalize() {
    while (range_ < kLeastRange) {
      range_ <<= 8;
      shift();
    }
  }

  // Bytes of 255 wait until it is known whether a carry runs through them.
  void shift() {
    if (low_ < 0xff000000U || low_ > 0xffffffffU) {
      const auto carry = static_cast<unsigned char>(low_ >> 32);
      if (!first_) *out_ += static_cast<char>(cache_ + carry);
      for (; waiting_ > 0; --waiting_) *out_ += static_cast<char>(0xff + carry);
      cache_ = static_cast<unsigned char>(low_ >> 24);
      first_ = false;
    } else {
      ++waiting_;
    }
    low_ = (low_ & 0x00ffffffU) << 8;
  }

  std::string* out_;
  uint64_t low_ = 0;
  uint32_t range_ = 0xffffffffU;
  unsigned char cache_ = 0;
  bool first_ = true;
  uint64_t waiting_ = 0;
};

/// Reads what RangeEncoder wrote, from a `Source` whose `next()` gives a byte: 0 for ever once
/// there are no more, which the source remembers.
template <typename Source>
class RangeDecoder {
 public:
  explicit RangeDecoder(Source* source) : source_(source) {
    for (int i = 0; i < 4; ++i) code_ = code_ << 8 | source_->next();
  }

  unsigned get(BitModel* model) {
    const uint32_t bound = (range_ >> kModelBits) * model->zero();
    const unsigned bit = code_ < bound ? 0 : 1;
    if (bit == 0) {
      range_ = bound;
    } else {
      code_ -= bound;
      range_ -= bound;
    }
    model->learn(bit);
    normalize();
    return bit;
  }

  template <int Bits>
  unsigned get(BitTree<Bits>* tree) {
    unsigned node = 1;
    for (int i = 0; i < Bits; ++i) node = node << 1 | get(&tree->models[node]);
    return node - (1U << Bits);
  }

  uint64_t get_plain(int count) {
    uint64_t value = 0;
    for (int i = 0; i < count; ++i) {
      range_ >>= 1;
      const bool bit = code_ >= range_;
      if (bit) code_ -= range_;
      value = value << 1 | static_cast<uint64_t>(bit);
      normalize();
    }
    return value;
  }

 private:
  void normalize() {
    while (range_ < kLeastRange) {
      range_ <<= 8;
      code_ = code_ << 8 | source_->next();
    }
  }

  Source* source_;
  uint32_t code_ = 0;
  uint32_t range_ = 0xffffffffU;
};

}  // namespace edgekit
