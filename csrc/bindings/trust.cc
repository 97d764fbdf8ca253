#include <cstdint>
#include <string_view>

#include "bindings/bind.h"
#include "bindings/errors.h"
#include "trust/ed25519.h"

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
}

}  // namespace edgekit::bindings
