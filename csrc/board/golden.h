#pragma once

#include <string>

#include "board/health.h"
#include "board/manifest.h"

namespace edgekit::board {

/// Runs the program of the bundle in `folder` on the plan at `plan` and its golden inputs and
/// compares the digest of each layer and each output's file; then holds time and memory against the
/// manifest's limits.
///
/// @param scratch a folder for outputs, emptied before and removed after.
/// Returns false and sets `error` where anything differs or is over its limit.
bool check_golden(const std::string& folder, const Manifest& manifest, const std::string& plan,
                  const std::string& scratch, Health* health, std::string* error);

}  // namespace edgekit::board
