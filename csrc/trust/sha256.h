#pragma once

#include <cstddef>
#include <cstdint>

namespace edgekit {

/// SHA-256 of a stream of bytes, by FIPS 180-4.
class Sha256 {
 public:
  /// Appends `size` bytes to the message.
  void update(const void* data, size_t size);

  /// Ends the message and writes its 32 byte digest. The object is spent.
  void finish(uint8_t digest[32]);

  /// Ends the message and writes its digest as 64 lower-case hexadecimal digits and a NUL. The
  /// object is spent.
  void finish_hex(char digest[65]);

 private:
  void compress(const uint8_t* block);

  uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint64_t size_ = 0;
  uint8_t block_[64];
};

}  // namespace edgekit
