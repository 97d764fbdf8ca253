#include "trust/hkdf.h"

#include <cstring>
#include <string>

#include "trust/sha256.h"

namespace edgekit {
namespace {

constexpr size_t kBlock = 64;

std::string_view view(const uint8_t bytes[32]) {
  return {reinterpret_cast<const char*>(bytes), 32};
}

}  // namespace

void hmac_sha256(std::string_view key, std::string_view message, uint8_t mac[32]) {
  uint8_t padded[kBlock] = {};
  if (key.size() > kBlock) {
    Sha256 hash;
    hash.update(key.data(), key.size());
    hash.finish(padded);
  } else if (!key.empty()) {
    std::memcpy(padded, key.data(), key.size());
  }
  uint8_t pad[kBlock];
  for (size_t i = 0; i < kBlock; ++i) pad[i] = padded[i] ^ 0x36;
  Sha256 inner;
  inner.update(pad, kBlock);
  inner.update(message.data(), message.size());
  inner.finish(mac);
  for (size_t i = 0; i < kBlock; ++i) pad[i] = padded[i] ^ 0x5c;
  Sha256 outer;
  outer.update(pad, kBlock);
  outer.update(mac, 32);
  outer.finish(mac);
}

void hkdf_sha256(std::string_view secret, std::string_view salt, std::string_view info,
                 uint8_t key[32]) {
  uint8_t extracted[32];
  hmac_sha256(salt, secret, extracted);
  hmac_sha256(view(extracted), std::string(info) + '\1', key);
}

bool equal_bytes(const uint8_t* a, const uint8_t* b, size_t size) {
  unsigned differences = 0;
  for (size_t i = 0; i < size; ++i) differences |= static_cast<unsigned>(a[i] ^ b[i]);
  return differences == 0;
}

}  // namespace edgekit
