#include "trust/chacha20_poly1305.h"

#include <algorithm>
#include <cstring>

#include "trust/hkdf.h"

namespace edgekit {
namespace {

constexpr size_t kBlock = 64;

uint32_t read_u32(const uint8_t* bytes) {
  return uint32_t{bytes[0]} | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16 |
         uint32_t{bytes[3]} << 24;
}

void write_u32(uint32_t value, uint8_t* bytes) {
  for (int i = 0; i < 4; ++i) bytes[i] = static_cast<uint8_t>(value >> (8 * i));
}

uint32_t rotate(uint32_t value, int bits) { return value << bits | value >> (32 - bits); }

void quarter_round(uint32_t* s, size_t a, size_t b, size_t c, size_t d) {
  s[a] += s[b];
  s[d] = rotate(s[d] ^ s[a], 16);
  s[c] += s[d];
  s[b] = rotate(s[b] ^ s[c], 12);
  s[a] += s[b];
  s[d] = rotate(s[d] ^ s[a], 8);
  s[c] += s[d];
  s[b] = rotate(s[b] ^ s[c], 7);
}

// RFC 8439, 2.3: the block of key stream with a counter.
void make_block(const uint8_t key[32], const uint8_t nonce[12], uint32_t counter,
                uint8_t block[kBlock]) {
  uint32_t state[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
  for (size_t i = 0; i < 8; ++i) state[4 + i] = read_u32(key + 4 * i);
  state[12] = counter;
  for (size_t i = 0; i < 3; ++i) state[13 + i] = read_u32(nonce + 4 * i);
  uint32_t mixed[16];
  std::memcpy(mixed, state, sizeof mixed);
  for (int round = 0; round < 10; ++round) {
    for (size_t i = 0; i < 4; ++i) quarter_round(mixed, i, 4 + i, 8 + i, 12 + i);
    for (size_t i = 0; i < 4; ++i) {
      quarter_round(mixed, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4);
    }
  }
  for (size_t i = 0; i < 16; ++i) write_u32(mixed[i] + state[i], block + 4 * i);
}

// Poly1305 (RFC 8439, 2.5) over blocks of 16 bytes: limbs of 26 bits, modulo 2^130 - 5.
class Poly1305 {
 public:
  explicit Poly1305(const uint8_t key[32]) {
    r_[0] = read_u32(key) & 0x3ffffff;
    r_[1] = read_u32(key + 3) >> 2 & 0x3ffff03;
    r_[2] = read_u32(key + 6) >> 4 & 0x3ffc0ff;
    r_[3] = read_u32(key + 9) >> 6 & 0x3f03fff;
    r_[4] = read_u32(key + 12) >> 8 & 0x00fffff;
    std::memcpy(pad_, key + 16, sizeof pad_);
  }

  /// Takes a block, filled up with zeros, as AEAD has it.
  void add(const uint8_t* data, size_t size) {
    uint8_t block[16] = {};
    std::memcpy(block, data, size);
    h_[0] += read_u32(block) & 0x3ffffff;
    h_[1] += read_u32(block + 3) >> 2 & 0x3ffffff;
    h_[2] += read_u32(block + 6) >> 4 & 0x3ffffff;
    h_[3] += read_u32(block + 9) >> 6;
    h_[4] += read_u32(block + 12) >> 8 | 1U << 24;
    uint64_t sums[5];
    for (size_t i = 0; i < 5; ++i) {
      sums[i] = 0;
      for (size_t j = 0; j < 5; ++j) {
        // 2^130 stands for 5.
        const uint64_t factor = j <= i ? r_[i - j] : uint64_t{5} * r_[5 + i - j];
        sums[i] += h_[j] * factor;
      }
    }
    uint64_t carry = 0;
    for (size_t i = 0; i < 5; ++i) {
      carry += sums[i];
      h_[i] = static_cast<uint32_t>(carry & 0x3ffffff);
      carry >>= 26;
    }
    carry = h_[0] + carry * 5;
    h_[0] = static_cast<uint32_t>(carry & 0x3ffffff);
    h_[1] += static_cast<uint32_t>(carry >> 26);
  }

  void finish(uint8_t tag[16]) {
    carry_all();
    carry_all();
    // h + 5 - 2^130 is what is left of h where h is the prime or more.
    uint32_t reduced[5];
    uint32_t carry = 5;
    for (size_t i = 0; i < 5; ++i) {
      carry += h_[i];
      reduced[i] = carry & 0x3ffffff;
      carry >>= 26;
    }
    const uint32_t take = 0U - carry;
    uint64_t sum = 0;
    uint32_t words[4];
    for (size_t i = 0; i < 5; ++i) h_[i] = (h_[i] & ~take) | (reduced[i] & take);
    words[0] = h_[0] | h_[1] << 26;
    words[1] = h_[1] >> 6 | h_[2] << 20;
    words[2] = h_[2] >> 12 | h_[3] << 14;
    words[3] = h_[3] >> 18 | h_[4] << 8;
    for (size_t i = 0; i < 4; ++i) {
      sum += uint64_t{words[i]} + read_u32(pad_ + 4 * i);
      write_u32(static_cast<uint32_t>(sum), tag + 4 * i);
      sum >>= 32;
    }
  }

 private:
  void carry_all() {
    uint32_t carry = 0;
    for (uint32_t& limb : h_) {
      carry += limb;
      limb = carry & 0x3ffffff;
      carry >>= 26;
    }
    h_[0] += 5 * carry;
  }

  uint32_t r_[5];
  uint32_t h_[5] = {};
  uint8_t pad_[16];
};

// RFC 8439, 2.8, without additional data.
void make_tag(const uint8_t key[32], const uint8_t nonce[12], const uint8_t* data, size_t size,
              uint8_t tag[kTagSize]) {
  uint8_t block[kBlock];
  make_block(key, nonce, 0, block);
  Poly1305 poly(block);
  for (size_t at = 0; at < size; at += 16) poly.add(data + at, std::min<size_t>(size - at, 16));
  uint8_t sizes[16] = {};
  for (size_t i = 0; i < 8; ++i) sizes[8 + i] = static_cast<uint8_t>(uint64_t{size} >> (8 * i));
  poly.add(sizes, sizeof sizes);
  poly.finish(tag);
}

}  // namespace

bool open_chacha20_poly1305(const uint8_t key[32], const uint8_t nonce[12], uint8_t* data,
                            size_t size) {
  uint8_t tag[kTagSize];
  make_tag(key, nonce, data, size, tag);
  if (!equal_bytes(tag, data + size, kTagSize)) return false;
  uint8_t block[kBlock];
  uint32_t counter = 1;
  for (size_t at = 0; at < size; at += kBlock) {
    make_block(key, nonce, counter++, block);
    for (size_t i = 0; i < std::min(size - at, kBlock); ++i) data[at + i] ^= block[i];
  }
  return true;
}

}  // namespace edgekit
