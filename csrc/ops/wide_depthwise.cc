#include <vector>

#include "ops/check.h"
#include "ops/check_wide.h"
#include "ops/round_up.h"
#include "ops/wide_layer.h"

namespace edgekit {
namespace {

/// Products of an output: so many of 32767 * 127 stay in int32.
constexpr size_t kMostTaps = ((size_t{1} << 31) - 1) / (size_t{32767} * 127);

/// Units are output rows of all images. Scratch holds the int16 codes of the input rows under one,
/// then the sums of a pixel.
class WideDepthwise : public Op {
 public:
  WideDepthwise(const WideLayerParams& params, const WideShape& shape, Isa isa)
      : shape_(shape),
        finish_(wide_finish(params, shape.c)),
        wide_(select_wide(isa)),
        weights_(reinterpret_cast<const int8_t*>(params.weights.data),
                 reinterpret_cast<const int8_t*>(params.weights.data) + params.weights.size),
        input_(params.input.data),
        output_(params.output.data),
        input_step_(params.input_step),
        row_size_(shape.in_w * shape.c) {
    codes_size_ = round_up(shape.window.kernel_h * row_size_ * sizeof(int16_t), kLineSize);
  }

  size_t units() const override { return shape_.batch * shape_.out_h; }
  size_t cost() const override { return shape_.pixels() * shape_.depth(); }
  size_t scratch_size() const override { return codes_size_ + shape_.c * sizeof(int32_t); }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    auto* codes = reinterpret_cast<int16_t*>(scratch);
    auto* sums = reinterpret_cast<int32_t*>(scratch + codes_size_);
    for (size_t unit = begin; unit < end; ++unit) {
      make_codes(unit, codes);
      float* y = reinterpret_cast<float*>(*output_) + unit * shape_.out_w * shape_.c;
      for (size_t column = 0; column < shape_.out_w; ++column, y += shape_.c) {
        add_products(unit % shape_.out_h, column, codes, sums);
        WideFinishArgs args = finish_;
        args.lower = sums;
        args.y = y;
        wide_.finish(args);
      }
    }
  }

 private:
  /// Returns the input row under row r of the window; one outside wraps around and is too large.
  size_t input_row(size_t row, size_t r) const {
    const Window& window = shape_.window;
    return row * window.stride_h + r * window.dilation_h - window.pad_top;
  }

  void make_codes(size_t unit, int16_t* codes) const {
    const float* image =
        reinterpret_cast<const float*>(*input_) + unit / shape_.out_h * shape_.in_h * row_size_;
    for (size_t r = 0; r < shape_.window.kernel_h; ++r, codes += row_size_) {
      const size_t row = input_row(unit % shape_.out_h, r);
      if (row >= shape_.in_h) continue;
      const float* x = image + row * row_size_;
      wide_.codes({row_size_, x, input_step_, codes});
    }
  }

  void add_products(size_t row, size_t column, const int16_t* codes, int32_t* sums) const {
    const Window& window = shape_.window;
    const int16_t* under[kMostTaps];
    uint16_t taps[kMostTaps];
    size_t count = 0;
    for (size_t r = 0; r < window.kernel_h; ++r) {
      if (input_row(row, r) >= shape_.in_h) continue;
      for (size_t t = 0; t < window.kernel_w; ++t) {
        const size_t x = column * window.stride_w + t * window.dilation_w - window.pad_left;
        if (x >= shape_.in_w) continue;
        under[count] = codes + r * row_size_ + x * shape_.c;
        taps[count++] = static_cast<uint16_t>(r * window.kernel_w + t);
      }
    }
    wide_.products({shape_.c, count, under, taps, weights_.data(), sums});
  }

  WideShape shape_;
  WideFinishArgs finish_;
  const WideKernels& wide_;
  /// Widened: two factors of 16 bits are what processors multiply to 32.
  std::vector<int16_t> weights_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  float input_step_;
  size_t row_size_;
  size_t codes_size_ = 0;
};

}  // namespace

std::unique_ptr<Op> make_wide_depthwise(const WideLayerParams& params, const PlanTarget& target,
                                        std::string* error) {
  WideShape shape;
  if (!check_wide(params, &shape, error)) return nullptr;
  if (params.input.shape.rank != 4 || shape.c != shape.n) {
    fail(error, {"input ", describe(params.input), " and output ", describe(params.output),
                 " must be [n, h, w, c] of the same channels"});
    return nullptr;
  }
  if (shape.taps() > kMostTaps) {
    fail(error, {"its sums could leave int32"});
    return nullptr;
  }
  if (!check_blob(params.weights, shape.depth(), 1, "the weights", error)) return nullptr;
  return std::make_unique<WideDepthwise>(params, shape, target.isa);
}

}  // namespace edgekit
