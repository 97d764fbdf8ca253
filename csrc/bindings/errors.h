#pragma once

#include <stdexcept>

namespace edgekit::bindings {

/// Becomes edgekit.EdgekitError.
class EdgekitError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Becomes edgekit.PlanError.
class PlanError : public EdgekitError {
 public:
  using EdgekitError::EdgekitError;
};

/// Makes pybind11 raise the package's own exceptions, which edgekit.targets.errors defines.
void translate_errors();

}  // namespace edgekit::bindings
