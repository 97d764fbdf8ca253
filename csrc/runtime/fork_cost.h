#pragma once

#include <cstddef>

#include "isa/isa.h"
#include "plan_generated.h"

namespace edgekit {

/// Returns the Op::cost() from which an op of this kind is worth sharing between threads: about
/// 2 us of one core, where handing work over and waiting for it takes 0.3 to 0.9.
size_t fork_cost(plan::OpParams kind, Isa isa);

}  // namespace edgekit
