#include "runtime/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace edgekit {
namespace {

// Bits are reflected: the most significant bit of a word is the coefficient of x^0.
constexpr uint32_t kPolynomial = 0x82F63B78;

// Bytes of one of the three streams that the hardware loop runs side by side, since an instruction
// takes three cycles.
constexpr size_t kStream = 4032;

constexpr uint32_t times_x(uint32_t a) { return (a >> 1) ^ ((a & 1) != 0 ? kPolynomial : 0); }

// Returns a * b modulo the polynomial.
[[maybe_unused]] constexpr uint32_t multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t bit = 0x80000000; bit != 0; bit >>= 1) {
    if ((a & bit) != 0) product ^= b;
    b = times_x(b);
  }
  return product;
}

// Returns x^(8 * bytes) modulo the polynomial: what a CRC is multiplied by when that many bytes
// follow it.
constexpr uint32_t shift_by(size_t bytes) {
  uint32_t power = 0x80000000;
  for (size_t i = 0; i < bytes * 8; ++i) power = times_x(power);
  return power;
}

[[maybe_unused]] constexpr uint32_t kShiftStream = shift_by(kStream);

// Made when a CPU without the instruction first needs it: in a board's program 8 kB would be much.
struct Tables {
  // entry[j][b] is the CRC of byte b followed by j zero bytes.
  std::array<std::array<uint32_t, 256>, 8> entry{};

  Tables() {
    for (uint32_t b = 0; b < 256; ++b) {
      uint32_t crc = b;
      for (int bit = 0; bit < 8; ++bit) crc = times_x(crc);
      entry[0][b] = crc;
    }
    for (size_t j = 1; j < 8; ++j) {
      for (uint32_t b = 0; b < 256; ++b) {
        entry[j][b] = (entry[j - 1][b] >> 8) ^ entry[0][entry[j - 1][b] & 0xFF];
      }
    }
  }
};

uint32_t update_by_table(uint32_t crc, const uint8_t* data, size_t size) {
  static const Tables tables;
  const auto& t = tables.entry;
  for (; size >= 8; data += 8, size -= 8) {
    crc = t[7][(crc ^ data[0]) & 0xFF] ^ t[6][((crc >> 8) ^ data[1]) & 0xFF] ^
          t[5][((crc >> 16) ^ data[2]) & 0xFF] ^ t[4][((crc >> 24) ^ data[3]) & 0xFF] ^
          t[3][data[4]] ^ t[2][data[5]] ^ t[1][data[6]] ^ t[0][data[7]];
  }
  for (; size > 0; ++data, --size) crc = (crc >> 8) ^ t[0][(crc ^ *data) & 0xFF];
  return crc;
}

#if defined(__x86_64__)

#define EDGEKIT_CRC_TARGET __attribute__((target("sse4.2")))

bool has_instruction() { return __builtin_cpu_supports("sse4.2") != 0; }

EDGEKIT_CRC_TARGET inline uint32_t step8(uint32_t crc, const uint8_t* data) {
  uint64_t word;
  std::memcpy(&word, data, sizeof word);
  return static_cast<uint32_t>(_mm_crc32_u64(crc, word));
}

EDGEKIT_CRC_TARGET inline uint32_t step1(uint32_t crc, uint8_t byte) {
  return _mm_crc32_u8(crc, byte);
}

#elif defined(__aarch64__) && defined(__linux__)

#define EDGEKIT_CRC_TARGET

bool has_instruction() {
  constexpr unsigned long kHwcapCrc32 = 1UL << 7;
  return (getauxval(AT_HWCAP) & kHwcapCrc32) != 0;
}

// Assembly, since compilers disagree on how a single function gets the extension.
inline uint32_t step8(uint32_t crc, const uint8_t* data) {
  uint64_t word;
  std::memcpy(&word, data, sizeof word);
  __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(word));
  return crc;
}

inline uint32_t step1(uint32_t crc, uint8_t byte) {
  __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"(uint32_t{byte}));
  return crc;
}

#endif

#if defined(EDGEKIT_CRC_TARGET)

EDGEKIT_CRC_TARGET uint32_t update_by_instruction(uint32_t crc, const uint8_t* data, size_t size) {
  static_assert(kStream % 8 == 0, "streams are read by eight bytes");
  for (; size >= 3 * kStream; data += 3 * kStream, size -= 3 * kStream) {
    uint32_t second = 0;
    uint32_t third = 0;
    for (size_t i = 0; i < kStream; i += 8) {
      crc = step8(crc, data + i);
      second = step8(second, data + kStream + i);
      third = step8(third, data + 2 * kStream + i);
    }
    crc = multiply(multiply(crc, kShiftStream) ^ second, kShiftStream) ^ third;
  }
  for (; size >= 8; data += 8, size -= 8) crc = step8(crc, data);
  for (; size > 0; ++data, --size) crc = step1(crc, *data);
  return crc;
}

#else

bool has_instruction() { return false; }

uint32_t update_by_instruction(uint32_t crc, const uint8_t* data, size_t size) {
  return update_by_table(crc, data, size);
}

#endif

}  // namespace

uint32_t crc32c(const void* data, size_t size, uint32_t crc) {
  static const bool instruction = has_instruction();
  const auto* bytes = static_cast<const uint8_t*>(data);
  return ~(instruction ? update_by_instruction(~crc, bytes, size)
                       : update_by_table(~crc, bytes, size));
}

uint32_t crc32c_by_table(const void* data, size_t size, uint32_t crc) {
  return ~update_by_table(~crc, static_cast<const uint8_t*>(data), size);
}

}  // namespace edgekit
