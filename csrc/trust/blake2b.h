#pragma once

#include <cstddef>
#include <cstdint>

namespace edgekit {

/// Writes the BLAKE2b-512 of `size` bytes, without a key, by RFC 7693.
void blake2b_512(const void* data, size_t size, uint8_t digest[64]);

}  // namespace edgekit
