#include "bindings/bind.h"
#include "bindings/errors.h"

PYBIND11_MODULE(_native, module) {
  module.doc() = "Kernels, plans and sessions: the native part of edgekit.";
  edgekit::bindings::translate_errors();
  edgekit::bindings::bind_kernels(module);
  edgekit::bindings::bind_float_kernels(module);
  edgekit::bindings::bind_plan(module);
  edgekit::bindings::bind_session(module);
  edgekit::bindings::bind_trust(module);
  edgekit::bindings::bind_delta(module);
  edgekit::bindings::bind_compress(module);
}
