#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/depthwise/depthwise.h"
#include "kernels/gemm/gemm.h"
#include "kernels/nibbles.h"
#include "op_harness.h"
#include "ops/conv.h"
#include "ops/depthwise.h"
#include "random_codes.h"

namespace edgekit::test {

/// Returns packed weights in [-8, 7] as plans hold them for kernels that take bytes.
inline std::vector<int8_t> join_weights(const int8_t* weights, size_t count) {
  std::vector<int8_t> joined((count + 1) / 2);
  for (size_t i = 0; i < joined.size(); ++i) {
    joined[i] = join_nibbles(weights[2 * i], 2 * i + 1 < count ? weights[2 * i + 1] : int8_t{0});
  }
  return joined;
}

/// A random convolution, its constants in the form of a plan, and what it gives, computed from int8
/// codes by the definition. One group for each channel is a depthwise convolution.
struct ConvProblem {
  /// `output_type` is what to write; a residual goes with codes, and with float32, of which it is.
  ConvProblem(Random& random, size_t group_count, size_t in_channels, size_t out_channels,
              const Window& moved, size_t in_h, size_t in_w, DType output_type, bool with_residual,
              Storage plan_storage)
      : window(moved),
        storage(plan_storage),
        groups(group_count),
        k(in_channels / group_count),
        n(out_channels / group_count),
        images(random.size(1, 2)),
        out_h(extent(in_h, window.pad_top + window.pad_bottom, window.kernel_h, window.dilation_h,
                     window.stride_h)),
        out_w(extent(in_w, window.pad_left + window.pad_right, window.kernel_w, window.dilation_w,
                     window.stride_w)),
        input("input", DType::kCode, dims(images, in_h, in_w, in_channels)),
        output("output", output_type, dims(images, out_h, out_w, out_channels)),
        other("other", output_type == DType::kFloat32 ? output_type : DType::kCode,
              dims(images, out_h, out_w, out_channels)),
        weights(out_channels * window.kernel_h * window.kernel_w * k),
        bias(out_channels),
        multiplier(out_channels) {
    pick_quantization(random, input.view());
    pick_quantization(random, output.view());
    pick_quantization(random, other.view());
    pick_bounds(random, &lo, &hi);
    fill_bytes(random, input.bytes(), input.size());
    if (output_type == DType::kFloat32) {
      float* real = reinterpret_cast<float*>(other.bytes());
      for (size_t i = 0; i < other.size() / sizeof(float); ++i) {
        real[i] = static_cast<float>(random.integer(-10000, 10000)) / 64.0f;
      }
    } else {
      fill_bytes(random, other.bytes(), other.size());
    }
    // Of any two neighbours, pair sums fit 16 bits: 255 * 2 * 64 < 32768.
    for (int8_t& w : weights) {
      w = static_cast<int8_t>(random.one_in(4) ? random.pick<int64_t>({-64, 64})
                                               : random.integer(-64, 64));
    }
    fill_bias(random, bias.data(), bias.size());
    const float typical = 4.0f / (64.0f * std::sqrt(static_cast<float>(depth())));
    for (float& m : multiplier) m = typical * random.log_uniform(0.1, 10);
    residual.present = with_residual;
    residual.tensor = other.view();
    residual.scale = random.log_uniform(1e-3, 1);
    residual.zero_point = static_cast<int32_t>(random.integer(-128, 127));
    residual.lo = static_cast<int32_t>(random.integer(-128, residual.zero_point));
    residual.hi = static_cast<int32_t>(random.integer(residual.zero_point, 127));
    if (output_type != DType::kCode || !random.one_in(3)) return;
    table.present = true;
    table.scale = random.log_uniform(1e-3, 1);
    table.zero_point = static_cast<int32_t>(random.integer(-128, 127));
    table_codes.resize(256);
    fill_bytes(random, table_codes.data(), table_codes.size());
    table.codes = {reinterpret_cast<const uint8_t*>(table_codes.data()), table_codes.size()};
  }

  /// Brings the weights to [-8, 7], and the bias to what then stays in int32.
  void take_nibbles() {
    for (int8_t& w : weights) w = static_cast<int8_t>(std::min(w / 8, 7));
    for (int32_t& b : bias) b /= 32;
    for (float& m : multiplier) m *= 8;
  }

  size_t taps() const { return size_t{window.kernel_h} * window.kernel_w; }
  size_t depth() const { return k * taps(); }

  /// Returns the bias as plans hold it: bias[c] - stored_zero_point(x) * sum w[c].
  std::vector<int32_t> plan_bias() const {
    std::vector<int32_t> result = bias;
    const int32_t zero_point = input.view().zero_point + storage_offset(storage);
    for (size_t i = 0; i < weights.size(); ++i) result[i / depth()] -= zero_point * weights[i];
    return result;
  }

  /// Returns the output's bytes.
  std::vector<uint8_t> expected() {
    std::vector<uint8_t> bytes(output.size());
    const size_t channels = groups * n;
    for (size_t i = 0; i < bytes.size() / dtype_size(output.view().dtype); ++i) {
      const size_t c = i % channels;
      const int32_t acc = accumulator(i / channels, c);
      const float v = static_cast<float>(acc) * multiplier[c];
      switch (output.view().dtype) {
        case DType::kInt32:
          std::memcpy(&bytes[i * 4], &acc, 4);
          break;
        case DType::kFloat32: {
          const float before =
              residual.present ? reinterpret_cast<const float*>(other.bytes())[i] : 0.0f;
          const float sum = residual.present ? before + v : v;
          std::memcpy(&bytes[i * 4], &sum, 4);
          break;
        }
        default:
          bytes[i] = to_stored(code(v, i), storage);
      }
    }
    return bytes;
  }

  std::string describe() const {
    const auto text = [](size_t value) { return std::to_string(value); };
    return "images " + text(images) + " out " + text(out_h) + "x" + text(out_w) + " groups " +
           text(groups) + " n " + text(n) + " k " + text(k) + " kernel " + text(window.kernel_h) +
           "x" + text(window.kernel_w) + " stride " + text(window.stride_h) + "x" +
           text(window.stride_w) + " dilation " + text(window.dilation_h) + "x" +
           text(window.dilation_w) + " pads " + text(window.pad_top) + " " + text(window.pad_left) +
           " " + text(window.pad_bottom) + " " + text(window.pad_right) +
           (residual.present ? " with residual" : "") + (table.present ? " with table" : "");
  }

  Window window;
  Storage storage;
  int32_t lo = -128;
  int32_t hi = 127;

  size_t groups;
  size_t k;
  size_t n;
  size_t images;
  size_t out_h;
  size_t out_w;
  OwnedTensor input;
  OwnedTensor output;
  OwnedTensor other;
  /// [out_channels][kernel_h][kernel_w][k], bias without the zero point's share.
  std::vector<int8_t> weights;
  std::vector<int32_t> bias;
  std::vector<float> multiplier;
  Residual residual;
  FusedTable table;
  std::vector<int8_t> table_codes;

 private:
  static std::vector<int64_t> dims(size_t n, size_t h, size_t w, size_t c) {
    return {static_cast<int64_t>(n), static_cast<int64_t>(h), static_cast<int64_t>(w),
            static_cast<int64_t>(c)};
  }

  static size_t extent(size_t in, size_t pads, size_t kernel, size_t dilation, size_t stride) {
    return (in + pads - ((kernel - 1) * dilation + 1)) / stride + 1;
  }

  int32_t accumulator(size_t pixel, size_t channel) {
    const int64_t* in = input.view().shape.dims;
    const size_t image = pixel / (out_h * out_w);
    const size_t first_channel = channel / n * k;
    int64_t acc = bias[channel];
    for (size_t r = 0; r < window.kernel_h; ++r) {
      for (size_t s = 0; s < window.kernel_w; ++s) {
        const int64_t y =
            static_cast<int64_t>(pixel / out_w % out_h * window.stride_h + r * window.dilation_h) -
            window.pad_top;
        const int64_t x =
            static_cast<int64_t>(pixel % out_w * window.stride_w + s * window.dilation_w) -
            window.pad_left;
        if (y < 0 || y >= in[1] || x < 0 || x >= in[2]) continue;
        const size_t from =
            static_cast<size_t>(((static_cast<int64_t>(image) * in[1] + y) * in[2] + x) * in[3]);
        const int8_t* w = &weights[(channel * taps() + r * window.kernel_w + s) * k];
        for (size_t i = 0; i < k; ++i) {
          const int32_t code = input.code(storage, from + first_channel + i);
          acc += (code - input.view().zero_point) * w[i];
        }
      }
    }
    return static_cast<int32_t>(acc);
  }

  /// Returns the output's code at element i from its value before rounding.
  int64_t code(float v, size_t i) {
    if (!table.present) return own_code(v, i, output.view());
    TensorView own = output.view();
    own.scale = table.scale;
    own.zero_point = table.zero_point;
    return table_codes[static_cast<size_t>(own_code(v, i, own) + 128)];
  }

  /// The same on the grid `out`, before a table.
  int64_t own_code(float v, size_t i, const TensorView& out) {
    if (!residual.present) return round_to_code(v, out.zero_point, lo, hi);
    const int64_t own = round_to_code(v, residual.zero_point, residual.lo, residual.hi);
    const float a = static_cast<float>(own - residual.zero_point) * (residual.scale / out.scale);
    const float b = static_cast<float>(other.code(storage, i) - other.view().zero_point) *
                    (other.view().scale / out.scale);
    return round_to_code(a + b, out.zero_point, lo, hi);
  }
};

/// Draws a window that is no larger than padding and image allow, and the image.
inline Window pick_window(Random& random, size_t* in_h, size_t* in_w) {
  Window w;
  w.kernel_h = static_cast<uint32_t>(random.pick<int64_t>({1, 2, 3, 3, 5}));
  w.kernel_w = static_cast<uint32_t>(random.pick<int64_t>({1, 2, 3, 3, 5}));
  w.stride_h = static_cast<uint32_t>(random.integer(1, 2));
  w.stride_w = static_cast<uint32_t>(random.integer(1, 3));
  w.dilation_h = random.one_in(4) ? 2 : 1;
  w.dilation_w = random.one_in(4) ? 3 : 1;
  w.pad_top = static_cast<uint32_t>(random.integer(0, 3));
  w.pad_left = static_cast<uint32_t>(random.integer(0, 3));
  w.pad_bottom = static_cast<uint32_t>(random.integer(0, 3));
  w.pad_right = static_cast<uint32_t>(random.integer(0, 3));
  const size_t extent_h = (w.kernel_h - 1) * w.dilation_h + 1;
  const size_t extent_w = (w.kernel_w - 1) * w.dilation_w + 1;
  const auto least = [](size_t extent, size_t pads) { return extent > pads ? extent - pads : 1; };
  *in_h = least(extent_h, w.pad_top + w.pad_bottom) + random.size(0, 9);
  *in_w = least(extent_w, w.pad_left + w.pad_right) + random.size(0, 12);
  return w;
}

/// Returns a view of a vector as a plan's constant.
template <class T>
Blob blob_of(const std::vector<T>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace edgekit::test
