#pragma once

#include <pybind11/numpy.h>

#include <memory>
#include <string>

#include "runtime/plan.h"

namespace edgekit::bindings {

/// A Plan as Python holds it: pybind11's holders are of mutable types.
struct PyPlan {
  std::shared_ptr<const Plan> plan;
};

/// Returns the dtype and shape of a tensor in Python's terms; codes are int8.
pybind11::dtype numpy_dtype(DType dtype);
pybind11::tuple python_shape(const Shape& shape);

}  // namespace edgekit::bindings
