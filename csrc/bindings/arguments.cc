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

}  // namespace edgekit::bindings
