#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/gemm/gemm.h"
#include "kernels/requantize_scalar.h"

namespace edgekit {

/// Stores the accumulators of the columns from `column` to `column + columns - 1` of a row, as far
/// as there are such columns, as args.output says: for kernels that are plain C++.
template <Storage storage>
static inline void store_row(const GemmArgs& args, size_t row, size_t column, size_t columns,
                             const int32_t* acc) {
  const size_t count = args.n - column < columns ? args.n - column : columns;
  uint8_t* y = static_cast<uint8_t*>(args.y) + row * args.y_stride;
  switch (args.output) {
    case Output::kCodes: {
      const Requantize& requantize = args.requantize;
      const uint8_t* residual = requantize.residual;
      for (size_t c = 0; c < count; ++c) {
        const uint8_t other =
            residual ? residual[row * requantize.residual_stride + column + c] : uint8_t{0};
        y[column + c] = requantize_byte<storage>(requantize, acc[c], column + c, other);
      }
      break;
    }
    case Output::kInt32:
      std::memcpy(y + column * sizeof(int32_t), acc, count * sizeof(int32_t));
      break;
    case Output::kFloat32:
    case Output::kFloat32Sum:
      for (size_t c = 0; c < count; ++c) {
        float v = static_cast<float>(acc[c]) * args.requantize.scale[column + c];
        if (args.output == Output::kFloat32Sum) {
          float before = 0;
          const uint8_t* from = args.requantize.residual + row * args.requantize.residual_stride;
          std::memcpy(&before, from + (column + c) * sizeof(float), sizeof(float));
          v = before + v;
        }
        std::memcpy(y + (column + c) * sizeof(float), &v, sizeof(float));
      }
      break;
  }
}

}  // namespace edgekit
