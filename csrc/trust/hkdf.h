#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace edgekit {

/// HMAC-SHA-256 of a message, by RFC 2104.
void hmac_sha256(std::string_view key, std::string_view message, uint8_t mac[32]);

/// The first 32 bytes that HKDF-SHA-256 derives, by RFC 5869. An empty salt is one of zeros.
void hkdf_sha256(std::string_view secret, std::string_view salt, std::string_view info,
                 uint8_t key[32]);

/// Returns whether two byte strings are equal, in a time that does not depend on what they hold.
bool equal_bytes(const uint8_t* a, const uint8_t* b, size_t size);

}  // namespace edgekit
