#include "trust/minisign.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "trust/blake2b.h"
#include "trust/ed25519.h"

namespace edgekit {
namespace {

constexpr std::string_view kTrusted = "trusted comment: ";

bool fail(std::string* error, const std::string& what) {
  *error = what;
  return false;
}

// Splits at newlines; one at the end of the text ends its last line.
std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    lines.push_back(line);
  }
  return lines;
}

// Reads the base64 (RFC 4648, 4) of exactly `size` bytes.
bool read_base64(std::string_view text, size_t size, uint8_t* bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const size_t padding = (3 - size % 3) % 3;
  if (text.size() != (size + 2) / 3 * 4 ||
      text.substr(text.size() - padding) != std::string_view("==").substr(0, padding)) {
    return false;
  }
  uint32_t bits = 0;
  size_t count = 0, written = 0;
  for (const char c : text.substr(0, text.size() - padding)) {
    const size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return false;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes[written++] = static_cast<uint8_t>(bits >> count);
    }
  }
  // What is left over of the last digit must be zeros, so that bytes have one spelling.
  return (bits & ((1U << count) - 1)) == 0;
}

std::string name_key(const uint8_t id[8]) {
  std::string name;
  for (size_t i = 8; i-- > 0;) {
    name += "0123456789ABCDEF"[id[i] >> 4];
    name += "0123456789ABCDEF"[id[i] & 15];
  }
  return name;
}

}  // namespace

std::string PublicKey::name() const { return name_key(id); }

bool read_public_key(std::string_view text, PublicKey* key, std::string* error) {
  const std::vector<std::string_view> lines = split_lines(text);
  uint8_t row[42];
  if (lines.size() != 2 || !read_base64(lines[1], sizeof row, row) || row[0] != 'E' ||
      row[1] != 'd') {
    return fail(error, "no public key of Ed25519 in minisign's format");
  }
  std::copy(row + 2, row + 10, key->id);
  std::copy(row + 10, row + 42, key->raw);
  return true;
}

bool read_signature(std::string_view text, Signature* signature, std::string* error) {
  const std::vector<std::string_view> lines = split_lines(text);
  uint8_t row[74];
  if (lines.size() != 4 || lines[2].substr(0, kTrusted.size()) != kTrusted ||
      !read_base64(lines[1], sizeof row, row) || row[0] != 'E' ||
      (row[1] != 'd' && row[1] != 'D') ||
      !read_base64(lines[3], sizeof signature->comment_signature, signature->comment_signature)) {
    return fail(error, "no signature of Ed25519 in minisign's format");
  }
  signature->prehashed = row[1] == 'D';
  std::copy(row + 2, row + 10, signature->id);
  std::copy(row + 10, row + 74, signature->raw);
  signature->comment = lines[2].substr(kTrusted.size());
  return true;
}

bool check_signature(const PublicKey& key, std::string_view message, const Signature& signature,
                     std::string* error) {
  if (std::memcmp(key.id, signature.id, sizeof key.id) != 0) {
    return fail(error, "signed by the key " + name_key(signature.id) + ", not by " + key.name() +
                           ", which was expected");
  }
  uint8_t hash[64];
  std::string_view signed_bytes = message;
  if (signature.prehashed) {
    blake2b_512(message.data(), message.size(), hash);
    signed_bytes = {reinterpret_cast<const char*>(hash), sizeof hash};
  }
  if (!verify_ed25519(key.raw, signed_bytes.data(), signed_bytes.size(), signature.raw)) {
    return fail(error,
                "the signature does not fit: this is not what the key " + key.name() + " signed");
  }
  const std::string whole =
      std::string(signature.raw, signature.raw + sizeof signature.raw) + signature.comment;
  if (!verify_ed25519(key.raw, whole.data(), whole.size(), signature.comment_signature)) {
    return fail(error, "the trusted comment is not the one that was signed");
  }
  return true;
}

}  // namespace edgekit
