#pragma once

#include <cmath>

#include "kernels/resize/resize.h"
#include "kernels/storage.h"

namespace edgekit {

// The resizing operations as their equations say, an element at a time.

inline void reference_run(const NearestRowArgs& args, Storage) {
  for (size_t j = 0; j < args.pixels; ++j) {
    for (size_t i = 0; i < args.size; ++i) {
      args.y[j * args.size + i] = args.x[args.columns[j] * args.size + i];
    }
  }
}

inline void reference_run(const LinearRowArgs& args, Storage storage) {
  for (size_t j = 0; j < args.pixels; ++j) {
    const size_t left = args.columns[j];
    const size_t right = left + 1 < args.in_width ? left + 1 : args.in_width - 1;
    for (size_t c = 0; c < args.channels; ++c) {
      const auto at = [&](const uint8_t* row, size_t column) {
        return int64_t{stored_value(storage, row[column * args.channels + c])} - args.x_zero_point;
      };
      const auto between = [&](const uint8_t* row) {
        return (kResizeOne - args.weights[j]) * at(row, left) + args.weights[j] * at(row, right);
      };
      const int64_t acc = (kResizeOne - args.row_weight) * between(args.top) +
                          args.row_weight * between(args.bottom);
      float whole = std::nearbyintf(static_cast<float>(acc) * args.multiplier);
      if (!(whole > args.lo)) whole = args.lo;
      if (whole > args.hi) whole = args.hi;
      args.y[j * args.channels + c] =
          static_cast<uint8_t>(args.zero_point + static_cast<int32_t>(whole));
    }
  }
}

}  // namespace edgekit
