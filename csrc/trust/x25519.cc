#include "trust/x25519.h"

#include <cstddef>
#include <cstring>

namespace edgekit {
namespace {

constexpr size_t kLimbs = 16;

// An element of the field of 2^255 - 19: limbs of 16 bits and some more with a sign, the least
// first. Nothing here branches on what they hold.
struct Element {
  int64_t limbs[kLimbs];
};

constexpr Element kZero = {};
constexpr Element kOne = {{1}};
// (486662 - 2) / 4 of the curve v^2 = u^3 + 486662 u^2 + u.
constexpr Element kA24 = {{0xdb41, 1}};

Element add(const Element& a, const Element& b) {
  Element sum;
  for (size_t i = 0; i < kLimbs; ++i) sum.limbs[i] = a.limbs[i] + b.limbs[i];
  return sum;
}

Element subtract(const Element& a, const Element& b) {
  Element difference;
  for (size_t i = 0; i < kLimbs; ++i) difference.limbs[i] = a.limbs[i] - b.limbs[i];
  return difference;
}

// Brings each limb back to 16 bits; 2^256 stands for 38.
void carry(Element* a) {
  for (size_t i = 0; i < kLimbs; ++i) {
    const int64_t over = a->limbs[i] >> 16;
    a->limbs[i] -= over * 65536;
    if (i + 1 < kLimbs) {
      a->limbs[i + 1] += over;
    } else {
      a->limbs[0] += 38 * over;
    }
  }
}

Element multiply(const Element& a, const Element& b) {
  int64_t product[2 * kLimbs] = {};
  for (size_t i = 0; i < kLimbs; ++i) {
    for (size_t j = 0; j < kLimbs; ++j) product[i + j] += a.limbs[i] * b.limbs[j];
  }
  Element result;
  for (size_t i = 0; i < kLimbs; ++i) result.limbs[i] = product[i] + 38 * product[i + kLimbs];
  carry(&result);
  carry(&result);
  return result;
}

// Exchanges two elements where `swap` is 1, and does as much where it is 0.
void exchange(int64_t swap, Element* a, Element* b) {
  for (size_t i = 0; i < kLimbs; ++i) {
    const int64_t change = -swap & (a->limbs[i] ^ b->limbs[i]);
    a->limbs[i] ^= change;
    b->limbs[i] ^= change;
  }
}

// Returns a^(p - 2) = 1 / a; p - 2 = 2^255 - 21, all ones but for bits 2 and 4.
Element invert(const Element& a) {
  Element result = a;
  for (int i = 253; i >= 0; --i) {
    result = multiply(result, result);
    if (i != 2 && i != 4) result = multiply(result, a);
  }
  return result;
}

Element read(const uint8_t bytes[32]) {
  Element a;
  for (size_t i = 0; i < kLimbs; ++i) a.limbs[i] = bytes[2 * i] | bytes[2 * i + 1] << 8;
  a.limbs[kLimbs - 1] &= 0x7fff;
  return a;
}

void write(Element a, uint8_t bytes[32]) {
  for (int i = 0; i < 3; ++i) carry(&a);
  // What is p or more loses p, twice since 2^256 is more than 2 p.
  for (int round = 0; round < 2; ++round) {
    Element less;
    less.limbs[0] = a.limbs[0] - 0xffed;
    for (size_t i = 1; i < kLimbs; ++i) {
      const int64_t top = i + 1 < kLimbs ? 0xffff : 0x7fff;
      less.limbs[i] = a.limbs[i] - top - (less.limbs[i - 1] >> 16 & 1);
      less.limbs[i - 1] &= 0xffff;
    }
    const int64_t negative = less.limbs[kLimbs - 1] >> 16 & 1;
    less.limbs[kLimbs - 1] &= 0xffff;
    exchange(1 - negative, &a, &less);
  }
  for (size_t i = 0; i < kLimbs; ++i) {
    bytes[2 * i] = static_cast<uint8_t>(a.limbs[i]);
    bytes[2 * i + 1] = static_cast<uint8_t>(a.limbs[i] >> 8);
  }
}

}  // namespace

void x25519(const uint8_t secret[32], const uint8_t u[32], uint8_t product[32]) {
  uint8_t scalar[32];
  std::memcpy(scalar, secret, sizeof scalar);
  scalar[0] &= 248;
  scalar[31] = static_cast<uint8_t>((scalar[31] & 127) | 64);
  const Element x1 = read(u);
  Element x2 = kOne, z2 = kZero, x3 = x1, z3 = kOne;
  int64_t swap = 0;
  for (int t = 254; t >= 0; --t) {
    const int64_t bit = scalar[t / 8] >> (t % 8) & 1;
    swap ^= bit;
    exchange(swap, &x2, &x3);
    exchange(swap, &z2, &z3);
    swap = bit;
    const Element a = add(x2, z2);
    const Element aa = multiply(a, a);
    const Element b = subtract(x2, z2);
    const Element bb = multiply(b, b);
    const Element e = subtract(aa, bb);
    const Element da = multiply(subtract(x3, z3), a);
    const Element cb = multiply(add(x3, z3), b);
    const Element sum = add(da, cb);
    const Element difference = subtract(da, cb);
    x3 = multiply(sum, sum);
    z3 = multiply(x1, multiply(difference, difference));
    x2 = multiply(aa, bb);
    z2 = multiply(e, add(aa, multiply(kA24, e)));
  }
  exchange(swap, &x2, &x3);
  exchange(swap, &z2, &z3);
  write(multiply(x2, invert(z2)), product);
}

}  // namespace edgekit
