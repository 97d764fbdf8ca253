#pragma once

#include <cmath>

#include "kernels/elementwise/elementwise.h"
#include "kernels/storage.h"

namespace edgekit {

// The elementwise operations as their equations say, an element at a time.

inline uint8_t reference_byte(float v, int32_t zero_point, float lo, float hi) {
  float whole = std::nearbyintf(v);
  if (!(whole > lo)) whole = lo;
  if (whole > hi) whole = hi;
  return static_cast<uint8_t>(zero_point + static_cast<int32_t>(whole));
}

template <class Function>
void reference_binary(const Operands& o, Storage storage, Function f) {
  for (size_t r = 0; r < o.rows; ++r) {
    for (size_t i = 0; i < o.width; ++i) {
      const uint8_t a = o.a[r * o.a_stride + i * o.a_step];
      const uint8_t b = o.b[r * o.b_stride + i * o.b_step];
      const float v =
          f(stored_value(storage, a) - o.a_zero_point, stored_value(storage, b) - o.b_zero_point);
      o.y[r * o.y_stride + i] = reference_byte(v, o.zero_point, o.lo, o.hi);
    }
  }
}

inline void reference_run(const AddArgs& args, Storage storage) {
  reference_binary(args.operands, storage, [&](int32_t a, int32_t b) {
    return static_cast<float>(a) * args.ratio_a + static_cast<float>(b) * args.ratio_b;
  });
}

inline void reference_run(const MulArgs& args, Storage storage) {
  reference_binary(args.operands, storage, [&](int32_t a, int32_t b) {
    return static_cast<float>(a * b) * args.multiplier;
  });
}

inline void reference_run(const ExtremeArgs& args, Storage storage) {
  reference_binary(args.operands, storage, [&](int32_t a, int32_t b) {
    const float left = static_cast<float>(a) * args.ratio_a;
    const float right = static_cast<float>(b) * args.ratio_b;
    return args.larger ? std::fmax(left, right) : std::fmin(left, right);
  });
}

inline void reference_run(const QuantizeArgs& args, Storage) {
  for (size_t p = 0; p < args.pixels; ++p) {
    for (size_t c = 0; c < args.channels; ++c) {
      const float v = args.x[c * args.channel_step + p] / args.scale;
      args.y[p * args.channels + c] = reference_byte(v, args.zero_point, args.lo, args.hi);
    }
  }
}

inline void reference_run(const QuantizePartsArgs& args, Storage) {
  const auto place = [&](size_t row, size_t part, size_t i) -> uint8_t& {
    return args.y[(row * args.parts + part) * args.width + i];
  };
  for (size_t r = 0; r < args.rows; ++r) {
    for (size_t i = 0; i < args.width; ++i) {
      const float v = args.x[r * args.width + i] * args.inverse;
      const float t = std::isnan(v) ? args.lo : std::fmin(std::fmax(v, args.lo), args.hi);
      const float code = std::nearbyintf(t);
      const float rest = std::nearbyintf(16 * (t - code));
      place(r, 0, i) = static_cast<uint8_t>(args.zero_point + static_cast<int32_t>(code));
      place(r, 1, i) = static_cast<uint8_t>(args.zero_point + static_cast<int32_t>(rest));
      if (args.parts < 3) continue;
      const int32_t coarse = static_cast<int32_t>(std::nearbyintf(code / 16));
      place(r, 2, i) = static_cast<uint8_t>(args.zero_point + coarse);
    }
  }
}

inline void reference_run(const DequantizeArgs& args, Storage storage) {
  for (size_t p = 0; p < args.pixels; ++p) {
    for (size_t c = 0; c < args.channels; ++c) {
      const int32_t q = stored_value(storage, args.x[p * args.channels + c]) - args.zero_point;
      args.y[c * args.channel_step + p] = static_cast<float>(q) * args.scale;
    }
  }
}

inline void reference_run(const LookupArgs& args, Storage) {
  for (size_t i = 0; i < args.size; ++i) args.y[i] = args.table[args.x[i]];
}

}  // namespace edgekit
