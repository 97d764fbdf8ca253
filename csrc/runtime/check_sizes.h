#pragma once

#include <string>

#include "runtime/plan.h"

namespace edgekit {

/// Checks that the sizes of a plan, each of which is sound by itself, are those of one network:
/// they agree in instruction set, target, source and writer, in the names, types and ranks of
/// inputs and outputs, and in states with their shapes; and no two take inputs of the same shapes.
/// Returns false and sets `error` otherwise.
bool check_sizes(const Plan& plan, std::string* error);

}  // namespace edgekit
