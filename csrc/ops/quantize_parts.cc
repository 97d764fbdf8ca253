#include "ops/quantize_parts.h"

#include <algorithm>

#include "kernels/elementwise/elementwise.h"
#include "ops/check.h"

namespace edgekit {
namespace {

/// The parts beside the codes themselves reach 16 codes from the zero point.
constexpr int32_t kReach = 16;
/// Elements of a unit, about.
constexpr size_t kUnitSize = 4096;

/// Rows of `width` elements, whose parts lie one behind the other.
struct PartRows {
  size_t rows = 1;
  size_t width = 1;
  size_t parts = 0;
  /// Whether each is a pixel of an image [n, h, w, c].
  bool pixels = false;
};

bool find_rows(const TensorView& input, const TensorView& output, PartRows* found,
               std::string* error) {
  const Shape& in = input.shape;
  const Shape& out = output.shape;
  size_t split = in.rank;
  bool fits = in.rank == out.rank;
  for (size_t i = 0; fits && i < in.rank; ++i) {
    if (out.dims[i] == in.dims[i]) continue;
    fits = split == in.rank && (out.dims[i] == 2 * in.dims[i] || out.dims[i] == 3 * in.dims[i]);
    split = i;
  }
  if (!fits || split == in.rank) {
    return fail(error, {"output ", describe(output), " does not have 2 or 3 parts of ",
                        describe(input), " in one dimension"});
  }
  found->parts = static_cast<size_t>(out.dims[split] / in.dims[split]);
  found->rows = element_count(in, 0, split);
  found->width = element_count(in, split, in.rank);
  found->pixels = in.rank == 4 && split == 3;
  return true;
}

/// Units are runs of rows; single ones where an image's own rows are asked for.
class QuantizeParts : public Op {
 public:
  QuantizeParts(const QuantizePartsParams& params, const PartRows& rows, const PlanTarget& target)
      : rows_(rows),
        unit_(target.in_rows ? 1 : std::max<size_t>(kUnitSize / rows.width, 1)),
        input_(params.input.data),
        output_(params.output.data),
        kernel_(select_kernel<QuantizePartsArgs>(target.isa, target.storage).run) {
    args_.width = rows.width;
    args_.parts = rows.parts;
    args_.inverse = 1.0F / params.output.scale;
    args_.zero_point = params.output.zero_point + storage_offset(target.storage);
    args_.lo = static_cast<float>(params.lo - params.output.zero_point);
    args_.hi = static_cast<float>(params.hi - params.output.zero_point);
  }

  size_t units() const override { return (rows_.rows + unit_ - 1) / unit_; }
  bool in_rows() const override { return rows_.pixels && unit_ == 1; }
  size_t cost() const override { return rows_.rows * rows_.width * (sizeof(float) + rows_.parts); }

  void run(size_t begin, size_t end, uint8_t*) const override {
    const size_t first = begin * unit_;
    QuantizePartsArgs args = args_;
    args.rows = std::min(end * unit_, rows_.rows) - first;
    args.x = reinterpret_cast<const float*>(*input_) + first * rows_.width;
    args.y = *output_ + first * rows_.width * rows_.parts;
    kernel_(args);
  }

 private:
  PartRows rows_;
  size_t unit_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  QuantizePartsArgs args_ = {};
  void (*kernel_)(const QuantizePartsArgs&);
};

}  // namespace

std::unique_ptr<Op> make_quantize_parts(const QuantizePartsParams& params, const PlanTarget& target,
                                        std::string* error) {
  PartRows rows;
  if (!check_tensor(params.input, error) || !check_codes(params.output, error) ||
      !check_bounds(params.lo, params.hi, error)) {
    return nullptr;
  }
  if (params.input.dtype != DType::kFloat32) {
    fail(error, {"tensor ", describe(params.input), " must hold float32"});
    return nullptr;
  }
  const int32_t zero_point = params.output.zero_point;
  if (zero_point < -128 + kReach || zero_point > 127 - kReach || params.lo > zero_point ||
      params.hi < zero_point) {
    fail(error, {"the zero point of ", describe(params.output), " leaves parts no room"});
    return nullptr;
  }
  if (!check_disjoint(params.input, params.output, error) ||
      !find_rows(params.input, params.output, &rows, error)) {
    return nullptr;
  }
  return std::make_unique<QuantizeParts>(params, rows, target);
}

}  // namespace edgekit
