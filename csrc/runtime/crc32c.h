#pragma once

#include <cstddef>
#include <cstdint>

namespace edgekit {

/// Returns the CRC-32C (Castagnoli, RFC 3720) of `size` bytes; pass an earlier result as `crc` to
/// go on from it.
///
/// crc32c(b, crc32c(a)) == crc32c(a followed by b). Uses the CPU's own instruction where there is
/// one.
uint32_t crc32c(const void* data, size_t size, uint32_t crc = 0);

/// The same by tables alone, on any CPU: what crc32c() falls back on and is tested against.
uint32_t crc32c_by_table(const void* data, size_t size, uint32_t crc = 0);

}  // namespace edgekit
