#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "plan_generated.h"
#include "runtime/op_tensors.h"

namespace edgekit {

/// Checks that every tensor is written once, by an op or by the caller, before an op reads it; that
/// outputs are written; and that no op overwrites what is still to be read: see check_graph().
/// `tensors` are those of each op, `chain_end` the op behind each chain in strips by its first op.
bool check_flow(const plan::Plan& plan, const std::vector<OpTensors>& tensors,
                const std::map<uint32_t, uint32_t>& chain_end, std::string* error);

}  // namespace edgekit
