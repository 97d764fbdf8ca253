#pragma once

#include <cstdint>

namespace edgekit {

/// The point u = 9, whose multiples are public keys.
inline constexpr uint8_t kX25519Base[32] = {9};

/// Multiplies the point `u` of Curve25519 by a secret number, by RFC 7748, 5: which instructions
/// run and what memory is touched depends on neither.
void x25519(const uint8_t secret[32], const uint8_t u[32], uint8_t product[32]);

}  // namespace edgekit
