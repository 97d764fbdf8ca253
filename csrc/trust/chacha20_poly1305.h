#pragma once

#include <cstddef>
#include <cstdint>

namespace edgekit {

/// Bytes that the seal of ChaCha20-Poly1305 adds.
inline constexpr size_t kTagSize = 16;

/// Opens in place what ChaCha20-Poly1305 (RFC 8439, without additional data) sealed: `size` bytes
/// and the tag behind them.
///
/// Returns false, and leaves `data` as it was, where the tag does not fit.
bool open_chacha20_poly1305(const uint8_t key[32], const uint8_t nonce[12], uint8_t* data,
                            size_t size);

}  // namespace edgekit
