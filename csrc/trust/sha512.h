#pragma once

#include <cstddef>
#include <cstdint>

namespace edgekit {

/// SHA-512 of a stream of bytes, by FIPS 180-4.
class Sha512 {
 public:
  /// Appends `size` bytes to the message.
  void update(const void* data, size_t size);

  /// Ends the message and writes its 64 byte digest. The object is spent.
  void finish(uint8_t digest[64]);

 private:
  void compress(const uint8_t* block);

  uint64_t state_[8] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b,
                        0xa54ff53a5f1d36f1, 0x510e527fade682d1, 0x9b05688c2b3e6c1f,
                        0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
  uint64_t size_ = 0;
  uint8_t block_[128];
};

}  // namespace edgekit
