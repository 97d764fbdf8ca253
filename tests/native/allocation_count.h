#pragma once

#include <cstddef>

namespace edgekit::test {

/// Returns how many times memory was asked for in this process, by any thread, through malloc() and
/// its kin.
///
/// Counts only where counts_allocations() says so: sanitizers bring an allocator of their own.
size_t allocations();

bool counts_allocations();

}  // namespace edgekit::test
