#include "bindings/errors.h"

#include <pybind11/pybind11.h>

#include <exception>

namespace edgekit::bindings {
namespace {

void raise(const char* type, const char* message) {
  pybind11::object error = pybind11::module_::import("edgekit.targets.errors").attr(type);
  PyErr_SetString(error.ptr(), message);
}

}  // namespace

void translate_errors() {
  // NOLINTNEXTLINE(performance-unnecessary-value-param): the signature is pybind11's.
  pybind11::register_local_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const PlanError& error) {
      raise("PlanError", error.what());
    } catch (const EdgekitError& error) {
      raise("EdgekitError", error.what());
    }
  });
}

}  // namespace edgekit::bindings
