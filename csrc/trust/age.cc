#include "trust/age.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "trust/bech32.h"
#include "trust/chacha20_poly1305.h"
#include "trust/hkdf.h"
#include "trust/x25519.h"

namespace edgekit {
namespace {

constexpr std::string_view kVersion = "age-encryption.org/v1";
constexpr std::string_view kStanza = "-> ";
constexpr std::string_view kKind = "X25519 ";
constexpr std::string_view kMac = "---";
constexpr size_t kFileKey = 16;
constexpr size_t kChunk = 65536;
constexpr size_t kBodyColumns = 64;
// A header of more than that has more recipients than a fleet has devices.
constexpr size_t kMostHeader = 1 << 20;

bool fail(std::string* error, const char* what) {
  *error = what;
  return false;
}

std::string_view view(const uint8_t* bytes, size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

// Reads RFC 4648's Base64 without padding, the bits behind the last byte 0. Returns false for
// anything else.
bool decode_base64(std::string_view text, size_t size, uint8_t* bytes) {
  if (text.size() != (size * 8 + 5) / 6) return false;
  unsigned bits = 0, held = 0;
  size_t filled = 0;
  for (const char c : text) {
    unsigned digit;
    if (c >= 'A' && c <= 'Z') {
      digit = static_cast<unsigned>(c - 'A');
    } else if (c >= 'a' && c <= 'z') {
      digit = static_cast<unsigned>(c - 'a' + 26);
    } else if (c >= '0' && c <= '9') {
      digit = static_cast<unsigned>(c - '0' + 52);
    } else if (c == '+' || c == '/') {
      digit = c == '+' ? 62 : 63;
    } else {
      return false;
    }
    bits = bits << 6 | digit;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes[filled++] = static_cast<uint8_t>(bits >> held);
  }
  return (bits & ((1U << held) - 1)) == 0;
}

// Reads lines of the header.
class HeaderReader {
 public:
  explicit HeaderReader(AgeStreams* streams) : streams_(streams) {}

  bool read_line(std::string_view* line) {
    const size_t begin = text_.size();
    while (text_.size() < kMostHeader) {
      char c;
      if (streams_->read(&c, 1) != 1) return false;
      text_ += c;
      if (c == '\n') {
        *line = std::string_view(text_).substr(begin, text_.size() - begin - 1);
        return true;
      }
    }
    return false;
  }

  const std::string& text() const { return text_; }

 private:
  AgeStreams* streams_;
  std::string text_;
};

// Opens the file key in a stanza: the share of the ephemeral key, and the sealed key.
bool unwrap(const AgeIdentity& identity, std::string_view share_text, std::string_view body,
            uint8_t file_key[kFileKey]) {
  uint8_t salt[64], shared[32], key[32], sealed[kFileKey + kTagSize];
  if (!decode_base64(share_text, 32, salt) || !decode_base64(body, sizeof sealed, sealed)) {
    return false;
  }
  x25519(identity.secret, kX25519Base, salt + 32);
  x25519(identity.secret, salt, shared);
  // A share of small order gives 0 whatever the secret is.
  constexpr uint8_t kZeros[32] = {};
  if (equal_bytes(shared, kZeros, sizeof shared)) return false;
  hkdf_sha256(view(shared, sizeof shared), view(salt, sizeof salt), "age-encryption.org/v1/X25519",
              key);
  constexpr uint8_t kNonce[12] = {};
  if (!open_chacha20_poly1305(key, kNonce, sealed, kFileKey)) return false;
  std::memcpy(file_key, sealed, kFileKey);
  return true;
}

bool read_header(AgeStreams* streams, const AgeIdentity& identity, uint8_t file_key[kFileKey],
                 std::string* error) {
  HeaderReader reader(streams);
  std::string_view line;
  if (!reader.read_line(&line) || line != kVersion) return fail(error, "no file locked by age");
  bool found = false;
  if (!reader.read_line(&line)) return fail(error, "cut off");
  while (line.substr(0, kStanza.size()) == kStanza) {
    const std::string arguments(line.substr(kStanza.size()));
    std::string body;
    // The last line of a body is the one that is not full.
    do {
      if (!reader.read_line(&line) || line.size() > kBodyColumns) return fail(error, "damaged");
      body += line;
    } while (line.size() == kBodyColumns);
    if (!found && arguments.compare(0, kKind.size(), kKind) == 0) {
      found = unwrap(identity, std::string_view(arguments).substr(kKind.size()), body, file_key);
    }
    if (!reader.read_line(&line)) return fail(error, "cut off");
  }
  if (line.substr(0, kMac.size() + 1) != "--- ") return fail(error, "damaged");
  if (!found) return fail(error, "not locked for this key");
  uint8_t said[32], mac[32], key[32];
  const std::string_view text = reader.text();
  hkdf_sha256(view(file_key, kFileKey), {}, "header", key);
  hmac_sha256(view(key, sizeof key), text.substr(0, text.size() - line.size() - 1 + kMac.size()),
              mac);
  if (!decode_base64(line.substr(kMac.size() + 1), sizeof said, said) ||
      !equal_bytes(said, mac, sizeof mac)) {
    return fail(error, "damaged");
  }
  return true;
}

}  // namespace

std::string AgeIdentity::recipient() const {
  uint8_t key[32];
  x25519(secret, kX25519Base, key);
  return format_bech32("age", key);
}

std::string AgeIdentity::text() const {
  std::string text = format_bech32("age-secret-key-", secret);
  for (char& c : text) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return text;
}

bool read_age_identity(std::string_view text, AgeIdentity* identity) {
  bool found = false;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line[0] == '#') continue;
    if (found || !parse_bech32(line, "age-secret-key-", identity->secret)) return false;
    found = true;
  }
  return found;
}

bool open_age(AgeStreams* streams, const AgeIdentity& identity, std::string* error) {
  uint8_t file_key[kFileKey], salt[16], key[32];
  if (!read_header(streams, identity, file_key, error)) return false;
  if (streams->read(reinterpret_cast<char*>(salt), sizeof salt) != sizeof salt) {
    return fail(error, "cut off");
  }
  hkdf_sha256(view(file_key, kFileKey), view(salt, sizeof salt), "payload", key);
  // Each chunk has its number in the nonce, and the last one a 1 behind it. One byte more than a
  // chunk tells whether it is the last.
  constexpr size_t kSealed = kChunk + kTagSize;
  std::vector<uint8_t> buffer(kSealed + 1);
  uint8_t nonce[12] = {};
  size_t held = 0;
  for (bool first = true;; first = false) {
    held += streams->read(reinterpret_cast<char*>(buffer.data()) + held, buffer.size() - held);
    const bool last = held <= kSealed;
    const size_t sealed = std::min(held, kSealed);
    // Only an empty file has an empty chunk.
    if (sealed < kTagSize || (sealed == kTagSize && !first)) return fail(error, "cut off");
    nonce[11] = last ? 1 : 0;
    if (!open_chacha20_poly1305(key, nonce, buffer.data(), sealed - kTagSize)) {
      return fail(error, last ? "damaged or cut off" : "damaged");
    }
    if (!streams->write(reinterpret_cast<const char*>(buffer.data()), sealed - kTagSize)) {
      return fail(error, "no room for its content");
    }
    if (last) return true;
    buffer[0] = buffer[kSealed];
    held = 1;
    for (size_t i = 11; i-- > 0;) {
      ++nonce[i];
      if (nonce[i] != 0) break;
    }
  }
}

}  // namespace edgekit
