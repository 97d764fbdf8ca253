#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "plan_generated.h"

namespace edgekit {

/// Verifies a graph section and returns its root, or null with `error` set.
///
/// `graph` is aligned to 64. After this, every offset inside the section can be followed and:
///  - every text is non-empty UTF-8 without a NUL (metadata values may be empty);
///  - isa is a known instruction set and storage is its own;
///  - every tensor has a rank of at most kMaxRank, positive dimensions and a size that fits
///    size_t; codes have a finite positive scale and an int8 zero point and live in the arena or
///    the constants; constant tensors start at a multiple of 64 and end inside the constants;
///    arena tensors start at a multiple of 64 and end inside it, and it ends at most 64 bytes
///    behind the last;
///  - inputs and outputs name each external tensor exactly once, by distinct names;
///  - every op is of a known kind, its tensor indices and enumerations are in range, its blobs
///    start at a multiple of 64 and lie inside the constants, its lo and hi are int8 codes in
///    order;
///  - strips are runs of Conv and DepthwiseConv in order, each of which reads its first input from
///    the one before; those tensors, and no others, are in strips, and nothing else reads them;
///  - a tensor in another one's memory lies inside it, has its type, and is written before or by
///  the
///    Concat that writes the other, or by a Slice of it;
///  - cores to pin threads to are at most ThreadPool::kMaxThreads, each below CPU_SETSIZE;
///  - every tensor is written once, by an op or by the caller, before any op reads it; outputs are
///    written; an op overwrites no arena tensor that is still to be read, except a reshape that
///    leaves its bytes where they are;
///  - the same holds for each of its sizes, none of which has sizes of its own.
///
/// How an op's tensors, window and blobs fit together is for the op's factory to check.
const plan::Plan* check_graph(const uint8_t* graph, size_t graph_size, size_t constants_size,
                              std::string* error);

/// Returns the bytes of a tensor that check_graph() has passed.
size_t tensor_bytes(const plan::Tensor& tensor);

}  // namespace edgekit
