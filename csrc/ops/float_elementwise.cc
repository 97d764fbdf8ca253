#include "ops/float_elementwise.h"

#include "ops/blocks.h"
#include "ops/broadcast.h"
#include "ops/check.h"
#include "ops/check_floats.h"

namespace edgekit {
namespace {

/// Units are blocks of elements.
class FloatUnary : public Op {
 public:
  FloatUnary(const FloatUnaryParams& params, const PlanTarget& target)
      : args_{params.function, params.alpha, params.beta, 0, nullptr, nullptr},
        input_(params.input.data),
        output_(params.output.data),
        size_(element_count(params.output.shape)),
        kernel_(select_float_vector(target.isa).unary) {}

  size_t units() const override { return block_count(size_); }
  size_t cost() const override { return size_ * sizeof(float); }

  void run(size_t begin, size_t end, uint8_t*) const override {
    const size_t first = begin * kBlockSize;
    FloatUnaryArgs args = args_;
    args.size = block_end(end, size_) - first;
    args.x = reinterpret_cast<const float*>(*input_) + first;
    args.y = reinterpret_cast<float*>(*output_) + first;
    kernel_(args);
  }

 private:
  FloatUnaryArgs args_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  size_t size_;
  void (*kernel_)(const FloatUnaryArgs&);
};

/// Units are rows of the innermost dimension, or blocks of it where there is no other.
class FloatBinary : public Op {
 public:
  FloatBinary(const FloatBinaryParams& params, const Broadcast& broadcast, const PlanTarget& target)
      : broadcast_(broadcast),
        a_(params.a.data),
        b_(params.b.data),
        output_(params.output.data),
        size_(element_count(params.output.shape)),
        kernel_(select_float_vector(target.isa).binary) {
    args_.op = params.op;
    args_.lo = params.lo;
    args_.hi = params.hi;
    args_.a_step = broadcast.inner().a_step;
    args_.b_step = broadcast.inner().b_step;
  }

  size_t units() const override {
    return broadcast_.rank == 1 ? block_count(size_) : size_ / broadcast_.inner().size;
  }
  size_t cost() const override { return size_ * sizeof(float); }

  void run(size_t begin, size_t end, uint8_t*) const override {
    if (broadcast_.rank == 1) {
      const size_t first = begin * kBlockSize;
      run_row(first * args_.a_step, first * args_.b_step, first, block_end(end, size_) - first);
      return;
    }
    const size_t width = broadcast_.inner().size;
    for (size_t unit = begin; unit < end; ++unit) {
      size_t a = 0;
      size_t b = 0;
      size_t index = unit;
      for (size_t i = broadcast_.rank - 1; i-- > 0;) {
        const Dimension& d = broadcast_.dims[i];
        a += index % d.size * d.a_step;
        b += index % d.size * d.b_step;
        index /= d.size;
      }
      run_row(a, b, unit * width, width);
    }
  }

 private:
  void run_row(size_t a, size_t b, size_t y, size_t size) const {
    FloatBinaryArgs args = args_;
    args.size = size;
    args.a = reinterpret_cast<const float*>(*a_) + a;
    args.b = reinterpret_cast<const float*>(*b_) + b;
    args.y = reinterpret_cast<float*>(*output_) + y;
    kernel_(args);
  }

  Broadcast broadcast_;
  uint8_t* const* a_;
  uint8_t* const* b_;
  uint8_t* const* output_;
  size_t size_;
  FloatBinaryArgs args_ = {};
  void (*kernel_)(const FloatBinaryArgs&);
};

}  // namespace

std::unique_ptr<Op> make_float_unary(const FloatUnaryParams& params, const PlanTarget& target,
                                     std::string* error) {
  if (!check_floats(params.input, error) || !check_floats(params.output, error)) return nullptr;
  if (params.function > kLastFloatFunction) {
    fail(error, {"the function is unknown"});
    return nullptr;
  }
  if (!same_shape(params.input.shape, params.output.shape)) {
    fail(error, {"input ", describe(params.input), " and output ", describe(params.output),
                 " have different shapes"});
    return nullptr;
  }
  if (!check_disjoint_or_same(params.input, params.output, error)) return nullptr;
  return std::make_unique<FloatUnary>(params, target);
}

std::unique_ptr<Op> make_float_binary(const FloatBinaryParams& params, const PlanTarget& target,
                                      std::string* error) {
  const TensorView& output = params.output;
  if (!check_floats(params.a, error) || !check_floats(params.b, error) ||
      !check_floats(output, error) || !check_float_bounds(params.lo, params.hi, error)) {
    return nullptr;
  }
  Broadcast broadcast;
  if (params.op > kLastFloatOperator ||
      !find_broadcast(params.a.shape, params.b.shape, output.shape, &broadcast)) {
    fail(error, {"output ", describe(output), " is not the broadcast of ", describe(params.a),
                 " and ", describe(params.b), ", or the operator is unknown"});
    return nullptr;
  }
  for (const TensorView* input : {&params.a, &params.b}) {
    if (!check_disjoint_or_same(*input, output, error)) return nullptr;
  }
  return std::make_unique<FloatBinary>(params, broadcast, target);
}

}  // namespace edgekit
