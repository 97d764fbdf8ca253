#include "trust/blake2b.h"

#include <algorithm>
#include <cstring>

namespace edgekit {
namespace {

constexpr size_t kBlock = 128;

// RFC 7693, 2.6: the first 64 bits of the fractional parts of the square roots of the first primes.
constexpr uint64_t kStart[8] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b,
                                0xa54ff53a5f1d36f1, 0x510e527fade682d1, 0x9b05688c2b3e6c1f,
                                0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};

// RFC 7693, 2.7: the order in which each round takes the message's words; two more begin anew.
constexpr uint8_t kOrder[10][16] = {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
                                    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
                                    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
                                    {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
                                    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
                                    {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
                                    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
                                    {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
                                    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
                                    {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

constexpr uint64_t rotate(uint64_t x, int n) { return (x >> n) | (x << (64 - n)); }

// RFC 7693, 3.1.
void mix(uint64_t* a, uint64_t* b, uint64_t* c, uint64_t* d, uint64_t x, uint64_t y) {
  *a += *b + x;
  *d = rotate(*d ^ *a, 32);
  *c += *d;
  *b = rotate(*b ^ *c, 24);
  *a += *b + y;
  *d = rotate(*d ^ *a, 16);
  *c += *d;
  *b = rotate(*b ^ *c, 63);
}

// RFC 7693, 3.2. `end` is the number of bytes up to the end of this block.
void compress(const uint8_t block[kBlock], uint64_t end, bool last, uint64_t state[8]) {
  uint64_t m[16];
  for (size_t i = 0; i < 16; ++i) {
    m[i] = 0;
    for (size_t j = 8; j-- > 0;) m[i] = m[i] << 8 | block[8 * i + j];
  }
  uint64_t v[16];
  std::memcpy(v, state, 8 * sizeof v[0]);
  std::memcpy(v + 8, kStart, 8 * sizeof v[0]);
  v[12] ^= end;
  if (last) v[14] = ~v[14];
  for (size_t round = 0; round < 12; ++round) {
    const uint8_t* const order = kOrder[round % 10];
    for (size_t i = 0; i < 8; ++i) {
      // Four columns, then four diagonals.
      const size_t turn = i / 4, column = i % 4;
      mix(&v[column], &v[4 + (column + turn) % 4], &v[8 + (column + 2 * turn) % 4],
          &v[12 + (column + 3 * turn) % 4], m[order[2 * i]], m[order[2 * i + 1]]);
    }
  }
  for (size_t i = 0; i < 8; ++i) state[i] ^= v[i] ^ v[i + 8];
}

}  // namespace

void blake2b_512(const void* data, size_t size, uint8_t digest[64]) {
  uint64_t state[8];
  std::memcpy(state, kStart, sizeof state);
  // Depth 1, fan-out 1, no key, 64 bytes of digest.
  state[0] ^= 0x01010040;
  const auto* const bytes = static_cast<const uint8_t*>(data);
  size_t done = 0;
  for (; size - done > kBlock; done += kBlock) {
    compress(bytes + done, done + kBlock, false, state);
  }
  uint8_t block[kBlock] = {};
  std::copy(bytes + done, bytes + size, block);
  compress(block, size, true, state);
  for (size_t i = 0; i < 64; ++i) digest[i] = static_cast<uint8_t>(state[i / 8] >> (8 * (i % 8)));
}

}  // namespace edgekit
