#pragma once

#include <cstddef>

#include "isa/isa.h"

// EDGEKIT_RUN(HAVE, function): the function, or null where HAVE is 0 because it was not built.
#define EDGEKIT_RUN_0(function) nullptr
#define EDGEKIT_RUN_1(function) function
#define EDGEKIT_RUN_PASTE(have, function) EDGEKIT_RUN_##have(function)
#define EDGEKIT_RUN(have, function) EDGEKIT_RUN_PASTE(have, function)

namespace edgekit {

/// A row of a kernels.inc whose kernels differ in nothing but instruction set and storage.
template <class Args>
struct Kernel {
  const char* name;
  Isa isa;
  Storage storage;
  /// Null when the kernel was not built into this binary.
  void (*run)(const Args& args);
};

template <class Args>
struct KernelList {
  const Kernel<Args>* rows;
  size_t count;
};

/// Returns every kernel that takes Args, built or not. Specialized beside each kernels.inc.
template <class Args>
KernelList<Args> kernels();

/// Returns the last row that was built and that a plan for `isa` may use; there always is a generic
/// one.
template <class Args>
const Kernel<Args>& select_kernel(Isa isa, Storage storage) {
  const KernelList<Args> list = kernels<Args>();
  size_t found = 0;
  for (size_t i = 0; i < list.count; ++i) {
    const Kernel<Args>& row = list.rows[i];
    if (row.run != nullptr && row.storage == storage && isa_contains(isa, row.isa)) found = i;
  }
  return list.rows[found];
}

}  // namespace edgekit
