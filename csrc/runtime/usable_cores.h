#pragma once

#include <cstddef>
#include <string>

namespace edgekit {

/// Returns how many cores the calling thread can keep busy: those that it may run on, and no more
/// than a quota of its control groups (version 2) leaves; `otherwise` where Linux does not say. At
/// least 1.
size_t count_usable_cores(size_t otherwise);

/// Returns the whole cores in a quota as cpu.max tells it ("<microseconds> <period>"), at least 1,
/// or 0 where there is none ("max <period>", or anything else).
///
/// A share of a core does not count: a thread more would use up the quota and then all would rest.
size_t count_cores_in_quota(const std::string& cpu_max);

}  // namespace edgekit
