#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace edgekit {

// Files that only who has a secret can read, in the format of age-encryption.org/v1, for recipients
// of its kind X25519.

/// A secret that opens files, and is to be kept.
struct AgeIdentity {
  uint8_t secret[32];

  /// Returns the public key that files are locked for: "age1...".
  std::string recipient() const;

  /// Returns the secret as age writes it: "AGE-SECRET-KEY-1...".
  std::string text() const;
};

/// Reads the file of an identity: lines that begin with # and one secret. Returns false for
/// anything else.
bool read_age_identity(std::string_view text, AgeIdentity* identity);

/// Where a locked file comes from and where its content goes.
class AgeStreams {
 public:
  virtual ~AgeStreams() = default;
  /// Reads up to `size` bytes and fewer only at the end.
  virtual size_t read(char* data, size_t size) = 0;
  virtual bool write(const char* data, size_t size) = 0;
};

/// Opens a locked file. Returns false and sets `error` where the identity does not open it or it is
/// damaged or cut off; what was written until then is genuine, but not all.
bool open_age(AgeStreams* streams, const AgeIdentity& identity, std::string* error);

}  // namespace edgekit
