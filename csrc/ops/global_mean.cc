#include "ops/global_mean.h"

#include <algorithm>

#include "kernels/pool/pool.h"
#include "ops/check.h"

namespace edgekit {
namespace {

/// Channels in one unit; the units of a range go to the kernel together.
constexpr size_t kChannels = 64;

/// Keeps a sum of stored values, 255 each, in int32.
constexpr size_t kMaxPixels = size_t{1} << 23u;

class GlobalMean : public Op {
 public:
  GlobalMean(const GlobalMeanParams& params, const PlanTarget& target)
      : images_(static_cast<size_t>(params.input.shape.dims[0])),
        channels_(static_cast<size_t>(params.input.shape.dims[3])),
        input_(params.input.data),
        output_(params.output.data),
        kernel_(select_kernel<GlobalMeanArgs>(target.isa, target.storage).run) {
    const int32_t offset = storage_offset(target.storage);
    args_.pixels = element_count(params.input.shape, 1, 3);
    args_.x_stride = channels_;
    args_.multiplier =
        params.input.scale / (params.output.scale * static_cast<float>(args_.pixels));
    args_.x_zero_point = params.input.zero_point + offset;
    args_.zero_point = params.output.zero_point + offset;
    args_.lo = static_cast<float>(params.lo - params.output.zero_point);
    args_.hi = static_cast<float>(params.hi - params.output.zero_point);
  }

  size_t units() const override { return images_ * blocks(); }
  size_t cost() const override { return images_ * channels_ * args_.pixels; }

  void run(size_t begin, size_t end, uint8_t*) const override {
    while (begin < end) {
      const size_t image = begin / blocks();
      const size_t first = begin % blocks() * kChannels;
      const size_t count = std::min(end - begin, blocks() - begin % blocks());
      GlobalMeanArgs args = args_;
      args.channels = std::min(channels_ - first, count * kChannels);
      args.x = *input_ + image * args.pixels * channels_ + first;
      args.y = *output_ + image * channels_ + first;
      kernel_(args);
      begin += count;
    }
  }

 private:
  size_t blocks() const { return (channels_ + kChannels - 1) / kChannels; }

  size_t images_;
  size_t channels_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  GlobalMeanArgs args_ = {};
  void (*kernel_)(const GlobalMeanArgs&);
};

}  // namespace

std::unique_ptr<Op> make_global_mean(const GlobalMeanParams& params, const PlanTarget& target,
                                     std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  if (!check_image(input, error) || !check_image(output, error) ||
      !check_bounds(params.lo, params.hi, error) || !check_disjoint(input, output, error)) {
    return nullptr;
  }
  const int64_t* in = input.shape.dims;
  const int64_t* out = output.shape.dims;
  if (out[0] != in[0] || out[1] != 1 || out[2] != 1 || out[3] != in[3]) {
    fail(error,
         {"the mean of ", describe(input), " is not of the shape of output ", describe(output)});
    return nullptr;
  }
  if (element_count(input.shape, 1, 3) > kMaxPixels) {
    fail(error, {"input ", describe(input), " has more than 2^23 pixels, whose sum may not fit"});
    return nullptr;
  }
  return std::make_unique<GlobalMean>(params, target);
}

}  // namespace edgekit
