#include "ops/fused_table.h"

#include <cmath>

#include "ops/check.h"

namespace edgekit {
namespace {

/// Bytes that stay in an L1 cache of 32 KB beside what the op reads.
constexpr size_t kBlockBytes = 12288;

}  // namespace

bool TableStage::init(const FusedTable& table, const TensorView& output, const PlanTarget& target,
                      TensorView* own, std::string* error) {
  *own = output;
  if (!table.present) return true;
  if (output.dtype != DType::kCode) {
    return fail(error, {"output ", describe(output), " must hold codes to take a table"});
  }
  if (!std::isfinite(table.scale) || !(table.scale > 0) || table.zero_point < -128 ||
      table.zero_point > 127) {
    return fail(error, {"the op's own scale before its table is not positive, or its zero point is "
                        "outside [-128, 127]"});
  }
  if (!check_blob(table.codes, 256, 1, "the fused table", error)) return false;
  own->scale = table.scale;
  own->zero_point = table.zero_point;
  table_ = stored_table(reinterpret_cast<const int8_t*>(table.codes.data), target.storage);
  kernel_ = select_kernel<LookupArgs>(target.isa, target.storage).run;
  return true;
}

size_t TableStage::block_rows(size_t width, size_t granule) {
  const size_t rows = kBlockBytes / (width == 0 ? 1 : width) / granule * granule;
  return rows == 0 ? granule : rows;
}

void TableStage::apply(uint8_t* y, size_t rows, size_t width, size_t stride) const {
  if (width == stride) {
    kernel_({rows * width, y, y, table_.bytes});
    return;
  }
  for (size_t r = 0; r < rows; ++r) kernel_({width, y + r * stride, y + r * stride, table_.bytes});
}

}  // namespace edgekit
