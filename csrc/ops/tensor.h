#pragma once

#include <cstddef>
#include <cstdint>

namespace edgekit {

/// The element type of a tensor; the values are those of DType in runtime/plan.fbs.
enum class DType : uint8_t { kCode, kInt32, kFloat32, kInt64, kUInt8, kBool };

/// Returns the bytes of one element.
constexpr size_t dtype_size(DType dtype) {
  return dtype == DType::kInt64 ? 8 : dtype == DType::kInt32 || dtype == DType::kFloat32 ? 4 : 1;
}

constexpr size_t kMaxRank = 8;

/// The dimensions of a tensor, outermost first. A rank of 0 is a scalar.
struct Shape {
  size_t rank = 0;
  int64_t dims[kMaxRank] = {};
};

/// One tensor of a session, as an op sees it.
///
/// `data` is where the session keeps the address of the tensor's first byte. For a tensor of the
/// arena the address is there when the op is made and never changes; the address of a model's input
/// or output (`external`) is written before each run and is null until then. Memory in the arena
/// can be read for 64 bytes behind its end, an external tensor can't. Of a tensor in strips
/// (`in_strips`) only some rows exist, in scratch, and can be read like the arena; its address is
/// where the whole tensor would begin, written before each call, and null until then.
///
/// Elements lie row-major without gaps, or in runs of the last dimension that begin `pixel_stride`
/// bytes apart: a part of a tensor of more channels. Ops refuse gaps unless they say otherwise.
/// Codes are in the plan's Storage; `zero_point` is in int8 codes.
struct TensorView {
  /// For error messages; never null.
  const char* name = "";
  uint8_t* const* data = nullptr;
  DType dtype = DType::kCode;
  Shape shape;
  float scale = 1;
  int32_t zero_point = 0;
  /// True where shape is the NHWC form of an NCHW tensor.
  bool channels_last = false;
  bool external = false;
  bool in_strips = false;
  /// 0 where there are no gaps.
  size_t pixel_stride = 0;
};

/// Constant bytes of a plan, aligned to 64.
struct Blob {
  const uint8_t* data = nullptr;
  size_t size = 0;
};

}  // namespace edgekit
