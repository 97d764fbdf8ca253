#include "ops/quantize.h"

#include "kernels/elementwise/elementwise.h"
#include "ops/blocks.h"
#include "ops/check.h"
#include "ops/lookup.h"

namespace edgekit {
namespace {

/// How planes [n][c][pixels] map to pixels [n][pixels][c]; without a change of order, one image of
/// one channel.
struct Planes {
  size_t images = 1;
  size_t channels = 1;
  size_t pixels = 1;
};

/// Checks that `last` is `first` with its channels moved from dimension 1 to the end.
bool check_order(const TensorView& first, const TensorView& last, std::string* error) {
  const size_t rank = first.shape.rank;
  bool fits = rank >= 2 && last.shape.rank == rank;
  for (size_t i = 0; fits && i < rank; ++i) {
    const size_t from = i == 0 ? 0 : i + 1 == rank ? 1 : i + 1;
    fits = last.shape.dims[i] == first.shape.dims[from];
  }
  if (fits) return true;
  return fail(error,
              {"tensor ", describe(last), " is not the channels-last form of ", describe(first)});
}

bool find_planes(const TensorView& real, const TensorView& codes, Planes* planes,
                 std::string* error) {
  if (!check_tensor(real, error) || !check_codes(codes, error)) return false;
  if (real.dtype != DType::kFloat32) {
    return fail(error, {"tensor ", describe(real), " must hold float32"});
  }
  if (!check_disjoint(real, codes, error)) return false;
  if (codes.channels_last && !real.channels_last) {
    if (!check_order(real, codes, error)) return false;
    planes->images = static_cast<size_t>(real.shape.dims[0]);
    planes->channels = static_cast<size_t>(real.shape.dims[1]);
    planes->pixels = element_count(real.shape, 2, real.shape.rank);
    return true;
  }
  if (!same_shape(real.shape, codes.shape)) {
    return fail(error,
                {"tensors ", describe(real), " and ", describe(codes), " have different shapes"});
  }
  planes->pixels = element_count(real.shape);
  return true;
}

/// Units are blocks of pixels of one image.
class PlanesOp : public Op {
 public:
  explicit PlanesOp(const Planes& planes) : planes_(planes) {}

  size_t units() const override { return planes_.images * block_count(planes_.pixels); }
  size_t cost() const override { return planes_.images * planes_.channels * planes_.pixels; }

  void run(size_t begin, size_t end, uint8_t*) const override {
    const size_t blocks = block_count(planes_.pixels);
    for (size_t unit = begin; unit < end; ++unit) {
      const size_t image = unit / blocks * planes_.channels * planes_.pixels;
      const size_t first = unit % blocks * kBlockSize;
      const size_t size = block_end(unit % blocks + 1, planes_.pixels) - first;
      run_block(image + first, image + first * planes_.channels, size);
    }
  }

 protected:
  /// Handles `pixels` pixels; the first one's elements in planes and in pixels are given.
  virtual void run_block(size_t plane_element, size_t pixel_element, size_t pixels) const = 0;

  Planes planes_;
};

class Quantize : public PlanesOp {
 public:
  Quantize(const QuantizeParams& params, const Planes& planes, const PlanTarget& target)
      : PlanesOp(planes),
        input_(params.input.data),
        output_(params.output.data),
        kernel_(select_kernel<QuantizeArgs>(target.isa, target.storage).run) {
    args_.channels = planes.channels;
    args_.channel_step = planes.pixels;
    args_.scale = params.output.scale;
    args_.zero_point = params.output.zero_point + storage_offset(target.storage);
    args_.lo = static_cast<float>(-128 - params.output.zero_point);
    args_.hi = static_cast<float>(127 - params.output.zero_point);
  }

 private:
  void run_block(size_t plane_element, size_t pixel_element, size_t pixels) const override {
    QuantizeArgs args = args_;
    args.pixels = pixels;
    args.x = reinterpret_cast<const float*>(*input_) + plane_element;
    args.y = *output_ + pixel_element;
    kernel_(args);
  }

  uint8_t* const* input_;
  uint8_t* const* output_;
  QuantizeArgs args_ = {};
  void (*kernel_)(const QuantizeArgs&);
};

class Dequantize : public PlanesOp {
 public:
  Dequantize(const DequantizeParams& params, const Planes& planes, const PlanTarget& target)
      : PlanesOp(planes),
        input_(params.input.data),
        output_(params.output.data),
        kernel_(select_kernel<DequantizeArgs>(target.isa, target.storage).run) {
    args_.channels = planes.channels;
    args_.channel_step = planes.pixels;
    args_.scale = params.input.scale;
    args_.zero_point = params.input.zero_point + storage_offset(target.storage);
  }

 private:
  void run_block(size_t plane_element, size_t pixel_element, size_t pixels) const override {
    DequantizeArgs args = args_;
    args.pixels = pixels;
    args.x = *input_ + pixel_element;
    args.y = reinterpret_cast<float*>(*output_) + plane_element;
    kernel_(args);
  }

  uint8_t* const* input_;
  uint8_t* const* output_;
  DequantizeArgs args_ = {};
  void (*kernel_)(const DequantizeArgs&);
};

}  // namespace

std::unique_ptr<Op> make_quantize(const QuantizeParams& params, const PlanTarget& target,
                                  std::string* error) {
  Planes planes;
  if (!find_planes(params.input, params.output, &planes, error)) return nullptr;
  return std::make_unique<Quantize>(params, planes, target);
}

std::unique_ptr<Op> make_dequantize(const DequantizeParams& params, const PlanTarget& target,
                                    std::string* error) {
  Planes planes;
  if (!find_planes(params.output, params.input, &planes, error)) return nullptr;
  return std::make_unique<Dequantize>(params, planes, target);
}

std::unique_ptr<Op> make_requantize(const RequantizeParams& params, const PlanTarget& target,
                                    std::string* error) {
  if (!check_codes(params.input, error) || !check_codes(params.output, error) ||
      !check_bounds(params.lo, params.hi, error)) {
    return nullptr;
  }
  const CodeTable table =
      requantize_table(params.input, params.output, params.lo, params.hi, target.storage);
  return make_table_lookup(params.input, params.output, table, target, error);
}

}  // namespace edgekit
