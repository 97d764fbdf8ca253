#include "trust/ed25519.h"

#include <cstring>

#include "trust/sha512.h"

namespace edgekit {
namespace {

constexpr size_t kLimbs = 8;

// A number below 2^256 in limbs of 32 bits, the least first.
struct Number {
  uint32_t limbs[kLimbs];
};

// p = 2^255 - 19, the field's prime.
constexpr Number kPrime = {{0xffffffed, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff,
                            0xffffffff, 0x7fffffff}};
// The order of the base point, 2^252 + 27742317777372353535851937790883648493.
constexpr Number kOrder = {{0x5cf5d3ed, 0x5812631a, 0xa2f79cd6, 0x14def9de, 0, 0, 0, 0x10000000}};
// d = -121665 / 121666 of the curve -x^2 + y^2 = 1 + d x^2 y^2.
constexpr Number kD = {{0x135978a3, 0x75eb4dca, 0x4141d8ab, 0x00700a4d, 0x7779e898, 0x8cc74079,
                        0x2b6ffe73, 0x52036cee}};
constexpr Number kTwiceD = {{0x26b2f159, 0xebd69b94, 0x8283b156, 0x00e0149a, 0xeef3d130, 0x198e80f2,
                             0x56dffce7, 0x2406d9dc}};
// 2^((p - 1) / 4), a square root of -1.
constexpr Number kRootOfMinusOne = {{0x4a0ea0b0, 0xc4ee1b27, 0xad2fe478, 0x2f431806, 0x3dfbd7a7,
                                     0x2b4d0099, 0x4fc1df0b, 0x2b832480}};
// The base point B: y = 4 / 5, x even.
constexpr Number kBaseX = {{0x8f25d51a, 0xc9562d60, 0x9525a7b2, 0x692cc760, 0xfdd6dc5c, 0xc0a4e231,
                            0xcd6e53fe, 0x216936d3}};
constexpr Number kBaseY = {{0x66666658, 0x66666666, 0x66666666, 0x66666666, 0x66666666, 0x66666666,
                            0x66666666, 0x66666666}};
constexpr Number kZero = {};
constexpr Number kOne = {{1}};

Number read_little_endian(const uint8_t bytes[32]) {
  Number number;
  for (size_t i = 0; i < kLimbs; ++i) {
    const uint8_t* const b = bytes + 4 * i;
    number.limbs[i] =
        uint32_t{b[0]} | uint32_t{b[1]} << 8 | uint32_t{b[2]} << 16 | uint32_t{b[3]} << 24;
  }
  return number;
}

bool bit(const Number& number, size_t i) { return (number.limbs[i / 32] >> (i % 32) & 1) != 0; }

bool equal(const Number& a, const Number& b) {
  return std::memcmp(a.limbs, b.limbs, sizeof a.limbs) == 0;
}

bool less(const Number& a, const Number& b) {
  for (size_t i = kLimbs; i-- > 0;) {
    if (a.limbs[i] != b.limbs[i]) return a.limbs[i] < b.limbs[i];
  }
  return false;
}

// Sets `difference` to a - b modulo 2^256; returns whether a < b.
bool subtract_limbs(const Number& a, const Number& b, Number* difference) {
  uint64_t borrow = 0;
  for (size_t i = 0; i < kLimbs; ++i) {
    const uint64_t limb = uint64_t{a.limbs[i]} - b.limbs[i] - borrow;
    difference->limbs[i] = static_cast<uint32_t>(limb);
    borrow = limb >> 63;
  }
  return borrow != 0;
}

// The field's elements: any number below 2^256 stands for its rest modulo p, and 2^256 for 38.

// Returns number + 2^256 * carry.
Number fold(Number number, uint64_t carry) {
  while (carry != 0) {
    uint64_t sum = carry * 38;
    for (uint32_t& limb : number.limbs) {
      sum += limb;
      limb = static_cast<uint32_t>(sum);
      sum >>= 32;
    }
    carry = sum;
  }
  return number;
}

Number add(const Number& a, const Number& b) {
  Number sum;
  uint64_t carry = 0;
  for (size_t i = 0; i < kLimbs; ++i) {
    carry += uint64_t{a.limbs[i]} + b.limbs[i];
    sum.limbs[i] = static_cast<uint32_t>(carry);
    carry >>= 32;
  }
  return fold(sum, carry);
}

Number subtract(const Number& a, const Number& b) {
  constexpr Number k38 = {{38}};
  Number difference;
  bool borrow = subtract_limbs(a, b, &difference);
  while (borrow) borrow = subtract_limbs(difference, k38, &difference);
  return difference;
}

Number multiply(const Number& a, const Number& b) {
  uint32_t product[2 * kLimbs] = {};
  for (size_t i = 0; i < kLimbs; ++i) {
    uint64_t carry = 0;
    for (size_t j = 0; j < kLimbs; ++j) {
      carry += uint64_t{a.limbs[i]} * b.limbs[j] + product[i + j];
      product[i + j] = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    product[i + kLimbs] = static_cast<uint32_t>(carry);
  }
  Number low;
  uint64_t carry = 0;
  for (size_t i = 0; i < kLimbs; ++i) {
    carry += uint64_t{product[kLimbs + i]} * 38 + product[i];
    low.limbs[i] = static_cast<uint32_t>(carry);
    carry >>= 32;
  }
  return fold(low, carry);
}

// Returns the least number that stands for the same element.
Number reduce(Number a) {
  // Below 2^256 = 2 p + 38 there are at most two primes to take away.
  while (!less(a, kPrime)) subtract_limbs(a, kPrime, &a);
  return a;
}

bool equal_elements(const Number& a, const Number& b) { return equal(reduce(a), reduce(b)); }

// Returns a^e for e = 2^bits - 1 - zeros: the exponents needed here are ones in all but a few bits.
Number power(const Number& a, size_t bits, uint32_t zeros) {
  Number result = kOne;
  for (size_t i = bits; i-- > 0;) {
    result = multiply(result, result);
    if (i >= 32 || (zeros >> i & 1) == 0) result = multiply(result, a);
  }
  return result;
}

// Returns 1 / a, which is a^(p - 2); p - 2 = 2^255 - 21.
Number invert(const Number& a) { return power(a, 255, 20); }

// A point (x, y) as (X : Y : Z : T) with x = X / Z, y = Y / Z and T = X Y / Z (Hisil, Wong, Carter
// and Dawson, "Twisted Edwards curves revisited", 2008).
struct Point {
  Number x, y, z, t;
};

constexpr Point kNeutral = {kZero, kOne, kOne, kZero};

// Section 3.1 of that paper, for a = -1: complete on this curve, doubling included.
Point add(const Point& p, const Point& q) {
  const Number a = multiply(subtract(p.y, p.x), subtract(q.y, q.x));
  const Number b = multiply(add(p.y, p.x), add(q.y, q.x));
  const Number c = multiply(multiply(p.t, kTwiceD), q.t);
  const Number zz = multiply(p.z, q.z);
  const Number d = add(zz, zz);
  const Number e = subtract(b, a);
  const Number f = subtract(d, c);
  const Number g = add(d, c);
  const Number h = add(b, a);
  return {multiply(e, f), multiply(g, h), multiply(f, g), multiply(e, h)};
}

Point negate(const Point& p) { return {subtract(kZero, p.x), p.y, p.z, subtract(kZero, p.t)}; }

bool is_neutral(const Point& p) { return equal_elements(p.x, kZero) && equal_elements(p.y, p.z); }

// RFC 8032, 5.1.3. Returns false where the bytes are no point's encoding.
bool decode(const uint8_t bytes[32], Point* point) {
  Number y = read_little_endian(bytes);
  const bool odd = bit(y, 255);
  y.limbs[kLimbs - 1] &= 0x7fffffff;
  if (!less(y, kPrime)) return false;
  const Number yy = multiply(y, y);
  const Number u = subtract(yy, kOne);
  const Number v = add(multiply(kD, yy), kOne);
  // x = u v^3 (u v^7)^((p - 5) / 8) is a root of u / v or of -u / v, if either has one;
  // (p - 5) / 8 = 2^252 - 3.
  const Number v3 = multiply(multiply(v, v), v);
  const Number v7 = multiply(multiply(v3, v3), v);
  Number x = multiply(multiply(u, v3), power(multiply(u, v7), 252, 2));
  const Number square = multiply(v, multiply(x, x));
  if (!equal_elements(square, u)) {
    if (!equal_elements(square, subtract(kZero, u))) return false;
    x = multiply(x, kRootOfMinusOne);
  }
  x = reduce(x);
  if (bit(x, 0) != odd) {
    if (equal(x, kZero)) return false;
    x = reduce(subtract(kZero, x));
  }
  *point = {x, y, kOne, multiply(x, y)};
  return true;
}

// RFC 8032, 5.1.2.
void encode(const Point& point, uint8_t bytes[32]) {
  const Number inverse = invert(point.z);
  const Number x = reduce(multiply(point.x, inverse));
  Number y = reduce(multiply(point.y, inverse));
  y.limbs[kLimbs - 1] |= (x.limbs[0] & 1) << 31;
  for (size_t i = 0; i < 32; ++i) {
    bytes[i] = static_cast<uint8_t>(y.limbs[i / 4] >> (8 * (i % 4)));
  }
}

// Returns a digest, a little-endian number of 512 bits, modulo the group's order.
Number reduce_digest(const uint8_t digest[64]) {
  Number rest = kZero;
  for (size_t i = 512; i-- > 0;) {
    // The rest is below 2^253, so that its double fits.
    uint32_t carry = digest[i / 8] >> (i % 8) & 1;
    for (uint32_t& limb : rest.limbs) {
      const uint32_t top = limb >> 31;
      limb = limb << 1 | carry;
      carry = top;
    }
    if (!less(rest, kOrder)) subtract_limbs(rest, kOrder, &rest);
  }
  return rest;
}

// Returns [a] p + [b] q.
Point multiply_and_add(const Number& a, const Point& p, const Number& b, const Point& q) {
  const Point both = add(p, q);
  Point sum = kNeutral;
  for (size_t i = 256; i-- > 0;) {
    sum = add(sum, sum);
    if (bit(a, i) && bit(b, i)) {
      sum = add(sum, both);
    } else if (bit(a, i)) {
      sum = add(sum, p);
    } else if (bit(b, i)) {
      sum = add(sum, q);
    }
  }
  return sum;
}

bool has_small_order(const Point& point) {
  const Point twice = add(point, point);
  const Point four_times = add(twice, twice);
  return is_neutral(add(four_times, four_times));
}

}  // namespace

bool verify_ed25519(const uint8_t public_key[32], const void* message, size_t size,
                    const uint8_t signature[64]) {
  Point key;
  const Number s = read_little_endian(signature + 32);
  if (!decode(public_key, &key) || has_small_order(key) || !less(s, kOrder)) return false;
  Sha512 hash;
  hash.update(signature, 32);
  hash.update(public_key, 32);
  hash.update(message, size);
  uint8_t digest[64];
  hash.finish(digest);
  const Point base = {kBaseX, kBaseY, kOne, multiply(kBaseX, kBaseY)};
  const Point r = multiply_and_add(s, base, reduce_digest(digest), negate(key));
  uint8_t encoded[32];
  encode(r, encoded);
  // An encoding that is not the least one differs from this.
  return std::memcmp(encoded, signature, sizeof encoded) == 0;
}

}  // namespace edgekit
