#include "ops/softmax.h"

#include <cmath>
#include <cstring>

#include "kernels/softmax/softmax.h"
#include "ops/check.h"

namespace edgekit {
namespace {

constexpr size_t kMaxLength = size_t{1} << 17u;
constexpr uint32_t kMaxEntry = uint32_t{1} << 30u;
/// Keeps ratio at most 2^33.
constexpr float kMinScale = 1.0f / 131072.0f;

class Softmax : public Op {
 public:
  Softmax(const SoftmaxParams& params, const PlanTarget& target)
      : rows_(element_count(params.input.shape, 0, params.input.shape.rank - 1)),
        input_(params.input.data),
        output_(params.output.data),
        kernel_(select_kernel<SoftmaxArgs>(target.isa, target.storage).run) {
    std::memcpy(table_, params.table.data, sizeof table_);
    const int32_t offset = storage_offset(target.storage);
    args_.n = static_cast<size_t>(params.input.shape.dims[params.input.shape.rank - 1]);
    args_.table = table_;
    args_.ratio = static_cast<uint64_t>(std::nearbyint(65536.0 / params.output.scale));
    args_.zero_point = params.output.zero_point + offset;
    args_.lo = -128 + offset;
    args_.hi = 127 + offset;
  }

  size_t units() const override { return rows_; }
  size_t cost() const override { return rows_ * (args_.n + 256); }

  void run(size_t begin, size_t end, uint8_t*) const override {
    SoftmaxArgs args = args_;
    args.rows = end - begin;
    args.x = *input_ + begin * args.n;
    args.y = *output_ + begin * args.n;
    kernel_(args);
  }

 private:
  size_t rows_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  uint32_t table_[256];
  SoftmaxArgs args_ = {};
  void (*kernel_)(const SoftmaxArgs&);
};

}  // namespace

std::unique_ptr<Op> make_softmax(const SoftmaxParams& params, const PlanTarget& target,
                                 std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  if (!check_codes(input, error) || !check_codes(output, error)) return nullptr;
  if (input.shape.rank == 0 || !same_shape(input.shape, output.shape)) {
    fail(error, {"input ", describe(input), " and output ", describe(output),
                 " must have the same shape and a last dimension"});
    return nullptr;
  }
  if (!check_disjoint_or_same(input, output, error) ||
      !check_blob(params.table, 256, sizeof(uint32_t), "the table", error)) {
    return nullptr;
  }
  if (static_cast<size_t>(input.shape.dims[input.shape.rank - 1]) > kMaxLength) {
    fail(error,
         {"the last dimension of ", describe(input), " exceeds ", std::to_string(kMaxLength)});
    return nullptr;
  }
  if (output.scale < kMinScale || output.scale > 1) {
    fail(error, {"the scale of output ", describe(output), " is outside [2^-17, 1]"});
    return nullptr;
  }
  for (size_t d = 0; d < 256; ++d) {
    uint32_t entry = 0;
    std::memcpy(&entry, params.table.data + d * sizeof entry, sizeof entry);
    if (entry > kMaxEntry || (d == 0 && entry == 0)) {
      fail(error, {"entry ", std::to_string(d), " of the table is out of range"});
      return nullptr;
    }
  }
  return std::make_unique<Softmax>(params, target);
}

}  // namespace edgekit
