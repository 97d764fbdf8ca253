#include "bindings/arguments.h"

#include "bindings/errors.h"

namespace py = pybind11;

namespace edgekit::bindings {

Isa require_isa(const std::string& name) {
  Isa isa;
  if (parse_isa(name.c_str(), &isa)) return isa;
  std::string known;
  size_t count;
  const IsaInfo* table = isa_table(&count);
  for (size_t i = 0; i < count; ++i) known += std::string(i == 0 ? "" : ", ") + table[i].name;
  throw EdgekitError("unknown instruction set '" + name + "'; known are " + known);
}

Isa require_isa_here(const std::string& name) {
  if (name.empty()) {
    const char* error = nullptr;
    const Isa isa = best_isa(&error);
    if (error != nullptr) throw EdgekitError(error);
    return isa;
  }
  const Isa isa = require_isa(name);
  if (!isa_built(isa) || !isa_supported(isa)) {
    throw EdgekitError("this machine does not run '" + name + "'");
  }
  return isa;
}

void require_array(const py::array& array, const char* argument, const py::dtype& dtype,
                   size_t rank) {
  const auto name = [](const py::dtype& type) { return py::str(type).cast<std::string>(); };
  if (!array.dtype().equal(dtype)) {
    throw EdgekitError(std::string(argument) + " is " + name(array.dtype()) + ", not " +
                       name(dtype));
  }
  if (static_cast<size_t>(array.ndim()) != rank) {
    throw EdgekitError(std::string(argument) + " has " + std::to_string(array.ndim()) +
                       " dimensions, not " + std::to_string(rank));
  }
  if ((array.flags() & py::array::c_style) == 0) {
    throw EdgekitError(std::string(argument) +
                       " is not contiguous in C order; numpy.ascontiguousarray makes it so");
  }
}

void require_extents(const py::array& array, const char* argument,
                     std::initializer_list<size_t> extents) {
  size_t dimension = 0;
  for (const size_t wanted : extents) {
    if (extent(array, dimension++) != wanted) {
      throw EdgekitError(std::string(argument) + " has shape " +
                         py::str(array.attr("shape")).cast<std::string>() + ", whose dimension " +
                         std::to_string(dimension - 1) + " should be " + std::to_string(wanted));
    }
  }
}

}  // namespace edgekit::bindings
