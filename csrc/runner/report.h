#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "runtime/plan.h"

namespace edgekit::runner {

/// What one call of the program found out. Times are in seconds.
struct Report {
  const Plan* plan = nullptr;
  /// As asked for, and as there are cores for.
  size_t threads = 0;
  size_t running_threads = 0;
  size_t batches = 0;
  /// Whether no inputs were given and zeros stood in.
  bool zeros = false;
  /// Opening the plan and making the session.
  double load = 0;
  double first = 0;
  /// The runs after the first, sorted.
  std::vector<double> runs;
  /// The most memory that the program held, binary included; 0 where it is not known.
  size_t peak = 0;
  /// File name of each output inside the folder, or empty.
  std::vector<std::string> files;
  /// Of each op, or empty.
  std::vector<double> profile;
  std::vector<std::string> digests;
};

/// Returns the value below which `percent` % of the sorted `values` lie (nearest rank).
double percentile(const std::vector<double>& values, double percent);

/// Returns the report for a program to read.
std::string format_json(const Report& report);

/// Returns the report for a person to read.
std::string format_text(const Report& report);

}  // namespace edgekit::runner
