#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "bindings/bind.h"
#include "bindings/errors.h"
#include "trust/age.h"
#include "trust/bech32.h"
#include "trust/ed25519.h"
#include "trust/x25519.h"

namespace py = pybind11;

namespace edgekit::bindings {
namespace {

const uint8_t* require_bytes(const py::bytes& bytes, const char* argument, size_t size) {
  const std::string_view view = bytes;
  if (view.size() != size) {
    throw EdgekitError(std::string(argument) + " has " + std::to_string(view.size()) +
                       " bytes, not " + std::to_string(size));
  }
  return reinterpret_cast<const uint8_t*>(view.data());
}

// A locked file and its content in memory.
class MemoryStreams : public AgeStreams {
 public:
  explicit MemoryStreams(std::string_view locked) : locked_(locked) {}
  size_t read(char* data, size_t size) override {
    const size_t count = std::min(size, locked_.size());
    std::memcpy(data, locked_.data(), count);
    locked_.remove_prefix(count);
    return count;
  }
  bool write(const char* data, size_t size) override {
    content_.append(data, size);
    return true;
  }
  const std::string& content() const { return content_; }

 private:
  std::string_view locked_;
  std::string content_;
};

AgeIdentity require_identity(const std::string& text) {
  AgeIdentity identity;
  if (!read_age_identity(text, &identity))
    throw EdgekitError("no secret key of a device: a line AGE-SECRET-KEY-1...");
  return identity;
}

}  // namespace

void bind_trust(py::module_& module) {
  module.def(
      "verify_ed25519",
      [](const py::bytes& public_key, const py::bytes& message, const py::bytes& signature) {
        const std::string_view text = message;
        return verify_ed25519(require_bytes(public_key, "public_key", 32), text.data(), text.size(),
                              require_bytes(signature, "signature", 64));
      },
      py::arg("public_key"), py::arg("message"), py::arg("signature"));
  module.def(
      "x25519",
      [](const py::bytes& secret, const py::bytes& point) {
        uint8_t product[32];
        x25519(require_bytes(secret, "secret", 32), require_bytes(point, "point", 32), product);
        return py::bytes(reinterpret_cast<const char*>(product), sizeof product);
      },
      py::arg("secret"), py::arg("point"));
  module.def(
      "age_recipient",
      [](const std::string& identity) { return require_identity(identity).recipient(); },
      py::arg("identity"));
  module.def(
      "parse_age_recipient",
      [](const std::string& text) {
        uint8_t point[32];
        if (!parse_bech32(text, "age", point)) {
          throw EdgekitError("'" + text +
                             "' is no public key of a device, which looks like age1...");
        }
        return py::bytes(reinterpret_cast<const char*>(point), sizeof point);
      },
      py::arg("text"));
  module.def(
      "format_age_identity",
      [](const py::bytes& secret) {
        AgeIdentity identity;
        std::memcpy(identity.secret, require_bytes(secret, "secret", 32), sizeof identity.secret);
        return identity.text();
      },
      py::arg("secret"));
  module.def(
      "open_age",
      [](const py::bytes& locked, const std::string& identity) {
        MemoryStreams streams{std::string_view(locked)};
        std::string error;
        if (!open_age(&streams, require_identity(identity), &error)) throw PlanError(error);
        return py::bytes(streams.content());
      },
      py::arg("locked"), py::arg("identity"));
}

}  // namespace edgekit::bindings
