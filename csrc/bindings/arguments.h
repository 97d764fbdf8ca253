#pragma once

#include <pybind11/numpy.h>

#include <cstddef>
#include <initializer_list>
#include <string>

#include "isa/isa.h"

namespace edgekit::bindings {

/// Returns the instruction set named `name`; throws EdgekitError when there is none.
Isa require_isa(const std::string& name);

/// Returns the instruction set named `name`, or the strongest one where that is empty; throws
/// EdgekitError when this machine does not run it.
Isa require_isa_here(const std::string& name);

/// Throws EdgekitError, naming the argument, unless `array` has `rank` dimensions, elements of
/// `dtype` in native order and no gaps between its rows.
void require_array(const pybind11::array& array, const char* argument, const pybind11::dtype& dtype,
                   size_t rank);

/// Returns the elements of `array` after require_array().
template <typename T>
const T* require(const pybind11::array& array, const char* argument, size_t rank) {
  require_array(array, argument, pybind11::dtype::of<T>(), rank);
  return static_cast<const T*>(array.data());
}

/// Returns the extent of one dimension.
inline size_t extent(const pybind11::array& array, size_t dimension) {
  return static_cast<size_t>(array.shape(static_cast<pybind11::ssize_t>(dimension)));
}

/// Throws EdgekitError, naming the argument, unless its first dimensions have these extents.
void require_extents(const pybind11::array& array, const char* argument,
                     std::initializer_list<size_t> extents);

}  // namespace edgekit::bindings
