#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace edgekit {

/// Returns 32 bytes as Bech32 text (BIP 173) behind a prefix in lower case.
std::string format_bech32(std::string_view prefix, const uint8_t bytes[32]);

/// Reads what format_bech32() gives, all in lower or all in upper case. Returns false for anything
/// else.
bool parse_bech32(std::string_view text, std::string_view prefix, uint8_t bytes[32]);

}  // namespace edgekit
