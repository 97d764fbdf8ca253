#pragma once

#include "kernels/elementwise/elementwise.h"
#include "kernels/rounding.h"
#include "kernels/storage.h"

// Elementwise operators as loops that compilers turn into vector code. Internal linkage throughout:
// each instruction set compiles its own copy.

namespace edgekit {
namespace {

inline uint8_t to_byte(float v, const Operands& o) {
  return static_cast<uint8_t>(o.zero_point + round_to_even(clamp_float(v, o.lo, o.hi)));
}

template <size_t a_step, size_t b_step, class Function>
void apply_steps(const Operands& o, Function f) {
  for (size_t r = 0; r < o.rows; ++r) {
    const uint8_t* a = o.a + r * o.a_stride;
    const uint8_t* b = o.b + r * o.b_stride;
    uint8_t* y = o.y + r * o.y_stride;
    EDGEKIT_INDEPENDENT
    for (size_t i = 0; i < o.width; ++i) y[i] = f(a[i * a_step], b[i * b_step]);
  }
}

template <class Function>
void apply(const Operands& o, Function f) {
  if (o.a_step == 1 && o.b_step == 1) return apply_steps<1, 1>(o, f);
  if (o.a_step == 1) return apply_steps<1, 0>(o, f);
  if (o.b_step == 1) return apply_steps<0, 1>(o, f);
  return apply_steps<0, 0>(o, f);
}

template <Storage storage>
void add(const AddArgs& args) {
  const Operands o = args.operands;
  const float ratio_a = args.ratio_a;
  const float ratio_b = args.ratio_b;
  apply(o, [=](uint8_t a, uint8_t b) {
    const float part_a = static_cast<float>(stored_value<storage>(a) - o.a_zero_point) * ratio_a;
    const float part_b = static_cast<float>(stored_value<storage>(b) - o.b_zero_point) * ratio_b;
    return to_byte(part_a + part_b, o);
  });
}

template <Storage storage>
void mul(const MulArgs& args) {
  const Operands o = args.operands;
  const float multiplier = args.multiplier;
  apply(o, [=](uint8_t a, uint8_t b) {
    const int32_t product =
        (stored_value<storage>(a) - o.a_zero_point) * (stored_value<storage>(b) - o.b_zero_point);
    return to_byte(static_cast<float>(product) * multiplier, o);
  });
}

template <Storage storage>
void extreme(const ExtremeArgs& args) {
  const Operands o = args.operands;
  const float ratio_a = args.ratio_a;
  const float ratio_b = args.ratio_b;
  // The smaller of two is the larger of their negatives, negated; neither changes a rounding.
  const float sign = args.larger ? 1.0f : -1.0f;
  apply(o, [=](uint8_t a, uint8_t b) {
    const float part_a = static_cast<float>(stored_value<storage>(a) - o.a_zero_point) * ratio_a;
    const float part_b = static_cast<float>(stored_value<storage>(b) - o.b_zero_point) * ratio_b;
    const float m = sign * part_a > sign * part_b ? part_a : part_b;
    return to_byte(m, o);
  });
}

/// Pixels that pass through a buffer on their way between planes and pixels.
constexpr size_t kBlock = 256;

template <Storage storage>
void dequantize_plane(const DequantizeArgs& args, const uint8_t* x, size_t size, float* y) {
  const int32_t zero_point = args.zero_point;
  const float scale = args.scale;
  EDGEKIT_INDEPENDENT
  for (size_t p = 0; p < size; ++p) {
    y[p] = static_cast<float>(stored_value<storage>(x[p]) - zero_point) * scale;
  }
}

template <Storage storage>
void dequantize(const DequantizeArgs& args) {
  if (args.channels == 1) return dequantize_plane<storage>(args, args.x, args.pixels, args.y);
  for (size_t first = 0; first < args.pixels; first += kBlock) {
    const size_t size = args.pixels - first < kBlock ? args.pixels - first : kBlock;
    for (size_t c = 0; c < args.channels; ++c) {
      const uint8_t* x = args.x + first * args.channels + c;
      uint8_t block[kBlock];
      for (size_t p = 0; p < size; ++p) block[p] = x[p * args.channels];
      dequantize_plane<storage>(args, block, size, args.y + c * args.channel_step + first);
    }
  }
}

/// What a step between the codes of one part is worth in those of the next.
constexpr float kPartsOfACode = 16;

/// Makes the parts of elements one after another.
class PartLoop {
 public:
  explicit PartLoop(const QuantizePartsArgs& args) : args_(args) {}

  template <bool has_coarse>
  void run(const float* x, uint8_t* y, size_t width, size_t count) const {
    // The bytes could alias the members.
    const QuantizePartsArgs args = args_;
    uint8_t* rest = y + width;
    uint8_t* coarse = rest + width;
    EDGEKIT_INDEPENDENT
    for (size_t i = 0; i < count; ++i) {
      const float t = clamp_float(x[i] * args.inverse, args.lo, args.hi);
      const int32_t whole = round_to_even(t);
      const float code = static_cast<float>(whole);
      y[i] = static_cast<uint8_t>(args.zero_point + whole);
      rest[i] = static_cast<uint8_t>(args.zero_point + round_to_even((t - code) * kPartsOfACode));
      if constexpr (has_coarse) {
        const int32_t part = round_to_even(code * (1 / kPartsOfACode));
        coarse[i] = static_cast<uint8_t>(args.zero_point + part);
      }
    }
  }

 private:
  QuantizePartsArgs args_;
};

/// Calls run(x, y) for the first element of each row, and where its parts begin.
template <class Function>
void walk_part_rows(const QuantizePartsArgs& args, Function run) {
  for (size_t r = 0; r < args.rows; ++r) {
    run(args.x + r * args.width, args.y + r * args.width * args.parts);
  }
}

inline void quantize_parts(const QuantizePartsArgs& args) {
  const PartLoop loop(args);
  const size_t width = args.width;
  if (args.parts == 3) {
    walk_part_rows(args, [&](auto x, auto y) { loop.run<true>(x, y, width, width); });
  } else {
    walk_part_rows(args, [&](auto x, auto y) { loop.run<false>(x, y, width, width); });
  }
}

/// The same by steps of 16 elements, of which the last of a row may overlap the one before it.
template <bool has_coarse, class Step>
void quantize_parts_by(const QuantizePartsArgs& args, const Step& step) {
  constexpr size_t kStep = 16;
  const size_t width = args.width;
  walk_part_rows(args, [&](const float* x, uint8_t* y) {
    for (size_t i = 0; i + kStep < width; i += kStep) {
      step.template run<has_coarse>(x + i, y + i, width);
    }
    step.template run<has_coarse>(x + width - kStep, y + width - kStep, width);
  });
}

/// Whichever of both fits the width.
template <class Step>
void quantize_parts_in_steps(const QuantizePartsArgs& args) {
  constexpr size_t kStep = 16;
  if (args.width < kStep) return quantize_parts(args);
  if (args.parts == 3) return quantize_parts_by<true>(args, Step(args));
  quantize_parts_by<false>(args, Step(args));
}

}  // namespace
}  // namespace edgekit
