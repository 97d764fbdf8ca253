#include "ops/gather.h"

#include <cstring>

#include "ops/check.h"

namespace edgekit {
namespace {

/// Units are rows of the output: what lies behind one index.
class Gather : public Op {
 public:
  explicit Gather(const GatherParams& params)
      : input_(params.input.data),
        indices_(params.indices.data),
        output_(params.output.data),
        wide_(params.indices.dtype == DType::kInt64),
        outer_(element_count(params.input.shape, 0, params.axis)),
        n_(params.input.shape.dims[params.axis]),
        count_(element_count(params.indices.shape)),
        row_(element_count(params.input.shape, params.axis + 1, params.input.shape.rank) *
             dtype_size(params.input.dtype)) {}

  size_t units() const override { return outer_ * count_; }
  size_t cost() const override { return outer_ * count_ * row_; }

  void run(size_t begin, size_t end, uint8_t*) const override {
    for (size_t unit = begin; unit < end; ++unit) {
      const size_t row = unit / count_ * static_cast<size_t>(n_) + index(unit % count_);
      std::memcpy(*output_ + unit * row_, *input_ + row * row_, row_);
    }
  }

 private:
  size_t index(size_t i) const {
    int64_t value = wide_ ? reinterpret_cast<const int64_t*>(*indices_)[i]
                          : reinterpret_cast<const int32_t*>(*indices_)[i];
    if (value < 0) value = value < -n_ ? 0 : value + n_;
    return static_cast<size_t>(value < n_ ? value : n_ - 1);
  }

  uint8_t* const* input_;
  uint8_t* const* indices_;
  uint8_t* const* output_;
  bool wide_;
  size_t outer_;
  int64_t n_;
  size_t count_;
  size_t row_;
};

bool fits(const GatherParams& params) {
  const Shape& in = params.input.shape;
  const Shape& by = params.indices.shape;
  const Shape& out = params.output.shape;
  if (params.axis >= in.rank || out.rank != in.rank - 1 + by.rank) return false;
  for (size_t i = 0; i < out.rank; ++i) {
    const int64_t dim = i < params.axis             ? in.dims[i]
                        : i < params.axis + by.rank ? by.dims[i - params.axis]
                                                    : in.dims[i + 1 - by.rank];
    if (out.dims[i] != dim) return false;
  }
  return true;
}

}  // namespace

std::unique_ptr<Op> make_gather(const GatherParams& params, const PlanTarget&, std::string* error) {
  const TensorView& indices = params.indices;
  if (!check_tensor(params.input, error) || !check_tensor(indices, error) ||
      !check_tensor(params.output, error) || !check_same_type(params.input, params.output, error) ||
      !check_disjoint(params.input, params.output, error) ||
      !check_disjoint(indices, params.output, error)) {
    return nullptr;
  }
  if (indices.dtype != DType::kInt32 && indices.dtype != DType::kInt64) {
    fail(error, {"indices ", describe(indices), " must be int32 or int64"});
    return nullptr;
  }
  if (!fits(params)) {
    fail(error, {"input ", describe(params.input), " and indices ", describe(indices),
                 " do not give output ", describe(params.output), " along this axis"});
    return nullptr;
  }
  return std::make_unique<Gather>(params);
}

}  // namespace edgekit
