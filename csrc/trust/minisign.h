#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace edgekit {

/// Who may sign: a public key in minisign's format (jedisct1.github.io/minisign).
struct PublicKey {
  uint8_t id[8];
  uint8_t raw[32];

  /// Returns the id as minisign prints it: 16 hexadecimal digits.
  std::string name() const;
};

/// Reads the content of a public key's file. Returns false and sets `error` where it is none.
bool read_public_key(std::string_view text, PublicKey* key, std::string* error);

/// A signature as its file says; whether it fits, check_signature() tells.
struct Signature {
  /// Whether the BLAKE2b-512 of the message was signed in its place.
  bool prehashed;
  uint8_t id[8];
  uint8_t raw[64];
  /// Signed as well, with `raw` before it.
  std::string comment;
  uint8_t comment_signature[64];
};

/// Reads the content of a signature's file. Returns false and sets `error` where it is none.
bool read_signature(std::string_view text, Signature* signature, std::string* error);

/// Returns whether `key` signed `message` and the trusted comment; sets `error` where not.
bool check_signature(const PublicKey& key, std::string_view message, const Signature& signature,
                     std::string* error);

}  // namespace edgekit
