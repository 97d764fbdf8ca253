#pragma once

#include <pybind11/pybind11.h>

namespace edgekit::bindings {

/// Adds the instruction sets, kernel lists, packing and crc32c.
void bind_kernels(pybind11::module_& module);

/// Adds the packing of float32 weights.
void bind_float_kernels(pybind11::module_& module);

/// Adds Plan, TensorInfo and OpInfo.
void bind_plan(pybind11::module_& module);

/// Adds Session.
void bind_session(pybind11::module_& module);

/// Adds the check of signatures.
void bind_trust(pybind11::module_& module);

/// Adds recipes that make a file of another one, and the chunks of files.
void bind_delta(pybind11::module_& module);

/// Adds Hessians and what decides weights by them.
void bind_compress(pybind11::module_& module);

}  // namespace edgekit::bindings
