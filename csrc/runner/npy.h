#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "ops/tensor.h"
#include "runtime/aligned_bytes.h"

namespace edgekit::runner {

/// An array of a .npy file: elements row-major without gaps, little-endian.
struct Array {
  DType dtype = DType::kFloat32;
  Shape shape;
  AlignedBytes data;
  size_t size = 0;
};

/// Reads a .npy file of format 1, 2 or 3 with float32, int8, uint8, int32, int64 or bool elements
/// in little-endian, C order. Returns false and sets `error`, which names the path, for any other.
bool read_npy(const char* path, Array* array, std::string* error);

/// Writes `size` bytes of elements as a .npy file of format 1, as numpy.save() would.
bool write_npy(const char* path, DType dtype, const Shape& shape, const void* data, size_t size,
               std::string* error);

}  // namespace edgekit::runner
