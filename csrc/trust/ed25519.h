#pragma once

#include <cstddef>
#include <cstdint>

namespace edgekit {

/// Returns whether `signature` is an Ed25519 signature of `message` by the holder of `public_key`.
///
/// By RFC 8032, 5.1.7, with the strictest reading of it, so that a signature has one form: the
/// number S is below the group's order, the coordinates of the key and of R are below the prime,
/// and R equals [S]B - [k]A without multiplying by the cofactor. A key of small order, for which
/// one signature fits many messages, is refused. Nothing here is secret: the time may depend on
/// the data.
///
/// @param public_key 32 bytes: a point, encoded by RFC 8032, 5.1.2.
/// @param signature 64 bytes: R, encoded likewise, and S, little-endian.
bool verify_ed25519(const uint8_t public_key[32], const void* message, size_t size,
                    const uint8_t signature[64]);

}  // namespace edgekit
