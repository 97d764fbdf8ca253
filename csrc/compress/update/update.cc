#include "compress/update/update.h"

#include "kernels/kernel_list.h"

namespace edgekit::compress {

#define EDGEKIT_UPDATE(function, isa, have) void function(const UpdateArgs& args);
#include "compress/update/kernels.inc"
#undef EDGEKIT_UPDATE

const std::vector<UpdateKernel>& update_kernels() {
  static const std::vector<UpdateKernel> list = {
#define EDGEKIT_UPDATE(function, isa, have) {#function, Isa::isa, EDGEKIT_RUN(have, function)},
#include "compress/update/kernels.inc"
#undef EDGEKIT_UPDATE
  };
  return list;
}

Update select_update(Isa isa) {
  Update found = nullptr;
  for (const UpdateKernel& kernel : update_kernels()) {
    if (kernel.run != nullptr && isa_contains(isa, kernel.isa)) found = kernel.run;
  }
  return found;
}

}  // namespace edgekit::compress
