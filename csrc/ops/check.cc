#include "ops/check.h"

#include <cmath>

namespace edgekit {
namespace {

constexpr uint64_t kMaxSize = sizeof(size_t) == 4 ? uint64_t{1} << 30u : uint64_t{1} << 40u;

/// No window of a network is larger; keeps the row pointers of one output row few.
constexpr uint32_t kMaxPad = 65535;

/// Returns the bytes from the first element to the last, included.
size_t extent(const TensorView& tensor) {
  const size_t pixel = pixel_size(tensor);
  const size_t pixels = element_count(tensor.shape) * dtype_size(tensor.dtype) / pixel;
  return (pixels - 1) * pixel_stride(tensor) + pixel;
}

bool overlap(const TensorView& a, const TensorView& b) {
  if (a.external || b.external) return false;
  if (a.in_strips || b.in_strips) return a.data == b.data;
  const uintptr_t a_begin = reinterpret_cast<uintptr_t>(*a.data);
  const uintptr_t b_begin = reinterpret_cast<uintptr_t>(*b.data);
  const uintptr_t a_end = a_begin + extent(a);
  const uintptr_t b_end = b_begin + extent(b);
  if (a_begin >= b_end || b_begin >= a_end) return false;
  const size_t stride = a.pixel_stride;
  if (stride == 0 || stride != b.pixel_stride) return true;
  // Parts of the same pixels: the bytes of one must end before those of the other begin.
  const size_t from_a = (b_begin % stride + stride - a_begin % stride) % stride;
  return from_a < pixel_size(a) || from_a + pixel_size(b) > stride;
}

bool check_extent(const char* axis, uint32_t kernel, uint32_t stride, uint32_t dilation,
                  uint32_t pad_begin, uint32_t pad_end, int64_t in, int64_t out,
                  std::string* error) {
  if (kernel == 0 || stride == 0 || dilation == 0) {
    return fail(error, {"kernel, stride and dilation in ", axis, " must be at least 1"});
  }
  if (pad_begin > kMaxPad || pad_end > kMaxPad) {
    return fail(error, {"padding in ", axis, " exceeds ", std::to_string(kMaxPad)});
  }
  const uint64_t extent = uint64_t{kernel - 1} * dilation + 1;
  const uint64_t padded = static_cast<uint64_t>(in) + pad_begin + pad_end;
  const uint64_t expected = extent > padded ? 0 : (padded - extent) / stride + 1;
  if (expected != static_cast<uint64_t>(out)) {
    return fail(error, {"the window gives ", std::to_string(expected), " positions in ", axis,
                        " where the output has ", std::to_string(out)});
  }
  return true;
}

}  // namespace

bool fail(std::string* error, std::initializer_list<std::string_view> parts) {
  error->clear();
  for (const std::string_view part : parts) error->append(part);
  return false;
}

std::string describe(const TensorView& tensor) {
  std::string text = std::string("'") + tensor.name + "' [";
  for (size_t i = 0; i < tensor.shape.rank && i < kMaxRank; ++i) {
    if (i != 0) text += ", ";
    text += std::to_string(tensor.shape.dims[i]);
  }
  return text + "]";
}

bool multiply(std::initializer_list<uint64_t> factors, size_t* product) {
  uint64_t value = 1;
  for (const uint64_t factor : factors) {
    if (factor != 0 && value > kMaxSize / factor) return false;
    value *= factor;
  }
  if (product != nullptr) *product = static_cast<size_t>(value);
  return true;
}

size_t element_count(const Shape& shape) { return element_count(shape, 0, shape.rank); }

size_t element_count(const Shape& shape, size_t begin, size_t end) {
  size_t count = 1;
  for (size_t i = begin; i < end; ++i) count *= static_cast<size_t>(shape.dims[i]);
  return count;
}

bool same_shape(const Shape& a, const Shape& b) {
  if (a.rank != b.rank) return false;
  for (size_t i = 0; i < a.rank; ++i) {
    if (a.dims[i] != b.dims[i]) return false;
  }
  return true;
}

size_t pixel_size(const TensorView& tensor) {
  const size_t rank = tensor.shape.rank;
  const size_t elements = rank == 0 ? 1 : static_cast<size_t>(tensor.shape.dims[rank - 1]);
  return elements * dtype_size(tensor.dtype);
}

size_t pixel_stride(const TensorView& tensor) {
  return tensor.pixel_stride != 0 ? tensor.pixel_stride : pixel_size(tensor);
}

TensorView without_gaps(const TensorView& tensor) {
  TensorView view = tensor;
  view.pixel_stride = 0;
  return view;
}

bool lies_in_place(const TensorView& part, const TensorView& whole, const size_t* begin) {
  if (part.external || whole.external || part.in_strips || whole.in_strips) return false;
  const size_t rank = whole.shape.rank;
  size_t offset = 0;
  // Bytes between neighbours of a dimension, from the innermost outwards.
  size_t part_step = dtype_size(part.dtype);
  size_t whole_step = dtype_size(whole.dtype);
  for (size_t i = rank; i-- > 0;) {
    if (part.shape.dims[i] != 1 && part_step != whole_step) return false;
    offset += begin[i] * whole_step;
    part_step =
        i + 1 == rank ? pixel_stride(part) : part_step * static_cast<size_t>(part.shape.dims[i]);
    whole_step =
        i + 1 == rank ? pixel_stride(whole) : whole_step * static_cast<size_t>(whole.shape.dims[i]);
  }
  return *part.data == *whole.data + offset;
}

bool check_tensor(const TensorView& tensor, std::string* error) {
  if (tensor.pixel_stride != 0) {
    return fail(error, {"tensor ", describe(tensor), " has gaps, which this op can't take"});
  }
  if (tensor.shape.rank > kMaxRank) {
    return fail(error, {"tensor '", tensor.name, "' has more than ", std::to_string(kMaxRank),
                        " dimensions"});
  }
  if (static_cast<uint8_t>(tensor.dtype) > static_cast<uint8_t>(DType::kBool)) {
    return fail(error, {"tensor '", tensor.name, "' has an unknown type"});
  }
  size_t size = dtype_size(tensor.dtype);
  for (size_t i = 0; i < tensor.shape.rank; ++i) {
    const int64_t dim = tensor.shape.dims[i];
    if (dim < 1 || !multiply({size, static_cast<uint64_t>(dim)}, &size)) {
      return fail(error, {"tensor ", describe(tensor), " has a dimension below 1 or is too large"});
    }
  }
  if (tensor.data == nullptr ||
      (!tensor.external && !tensor.in_strips && *tensor.data == nullptr)) {
    return fail(error, {"tensor ", describe(tensor), " has no memory"});
  }
  if (tensor.dtype != DType::kCode) return true;
  if (!std::isfinite(tensor.scale) || !(tensor.scale > 0)) {
    return fail(error, {"tensor ", describe(tensor), " has a scale that is not positive"});
  }
  if (tensor.zero_point < -128 || tensor.zero_point > 127) {
    return fail(error, {"tensor ", describe(tensor), " has the zero point ",
                        std::to_string(tensor.zero_point), ", outside [-128, 127]"});
  }
  return true;
}

bool check_codes(const TensorView& tensor, std::string* error) {
  if (!check_tensor(tensor, error)) return false;
  if (tensor.dtype != DType::kCode) {
    return fail(error, {"tensor ", describe(tensor), " must hold int8 codes"});
  }
  return true;
}

bool check_image(const TensorView& tensor, std::string* error) {
  if (!check_codes(tensor, error)) return false;
  if (tensor.shape.rank != 4) {
    return fail(error, {"tensor ", describe(tensor), " must be [n, h, w, c]"});
  }
  return true;
}

bool check_readable_behind(const TensorView& tensor, std::string* error) {
  if (!tensor.external) return true;
  return fail(error, {"tensor ", describe(tensor),
                      " is the caller's memory, behind which nothing may be read"});
}

bool check_disjoint(const TensorView& input, const TensorView& output, std::string* error) {
  if (!overlap(input, output)) return true;
  return fail(error,
              {"tensors ", describe(input), " and ", describe(output), " overlap in memory"});
}

bool check_disjoint_or_same(const TensorView& input, const TensorView& output, std::string* error) {
  const bool same = !input.external && !output.external && *input.data == *output.data &&
                    input.dtype == output.dtype && same_shape(input.shape, output.shape);
  return same || check_disjoint(input, output, error);
}

bool check_same_rows(const TensorView& input, const TensorView& output, std::string* error) {
  const Shape& in = input.shape;
  const Shape& out = output.shape;
  if (in.rank != 0 && out.rank != 0 &&
      element_count(in, 0, in.rank - 1) == element_count(out, 0, out.rank - 1)) {
    return true;
  }
  return fail(error, {"input ", describe(input), " and output ", describe(output),
                      " have different numbers of rows"});
}

bool check_same_type(const TensorView& input, const TensorView& output, std::string* error) {
  if (input.dtype != output.dtype) {
    return fail(error,
                {"tensors ", describe(input), " and ", describe(output), " have different types"});
  }
  if (input.dtype == DType::kCode &&
      (input.scale != output.scale || input.zero_point != output.zero_point)) {
    return fail(error, {"tensors ", describe(input), " and ", describe(output),
                        " have different scales or zero points"});
  }
  return true;
}

bool check_bounds(int32_t lo, int32_t hi, std::string* error) {
  if (-128 <= lo && lo <= hi && hi <= 127) return true;
  return fail(error, {"the bounds [", std::to_string(lo), ", ", std::to_string(hi),
                      "] are empty or outside [-128, 127]"});
}

bool check_window(const Window& window, const TensorView& input, const TensorView& output,
                  std::string* error) {
  const int64_t* in = input.shape.dims;
  const int64_t* out = output.shape.dims;
  if (in[0] != out[0]) {
    return fail(error, {"input ", describe(input), " and output ", describe(output),
                        " have different batches"});
  }
  return check_extent("height", window.kernel_h, window.stride_h, window.dilation_h, window.pad_top,
                      window.pad_bottom, in[1], out[1], error) &&
         check_extent("width", window.kernel_w, window.stride_w, window.dilation_w, window.pad_left,
                      window.pad_right, in[2], out[2], error);
}

bool check_groups(uint32_t groups, const TensorView& input, const TensorView& output,
                  std::string* error) {
  const auto in = static_cast<uint64_t>(input.shape.dims[3]);
  const auto out = static_cast<uint64_t>(output.shape.dims[3]);
  if (groups != 0 && in % groups == 0 && out % groups == 0) return true;
  return fail(error, {"the channels of input ", describe(input), " and output ", describe(output),
                      " can't be cut into ", std::to_string(groups), " groups"});
}

bool check_kernel(const char* name, Isa isa, Storage storage, bool built, const PlanTarget& target,
                  std::string* error) {
  const std::string kernel = std::string("kernel '") + name + "'";
  if (target.runs && !built) return fail(error, {kernel, " was not compiled into this binary"});
  if (storage != target.storage) {
    return fail(error, {kernel, " takes another storage of activations than the plan's"});
  }
  if (!isa_contains(target.isa, isa)) {
    return fail(error, {kernel, " needs ", isa_info(isa).name, ", but the plan was made for ",
                        isa_info(target.isa).name});
  }
  if (target.runs && !isa_supported(isa)) {
    return fail(error, {kernel, " needs ", isa_info(isa).name, ", which this CPU lacks"});
  }
  return true;
}

bool check_blob(const Blob& blob, size_t count, size_t element_size, const char* role,
                std::string* error) {
  size_t expected = 0;
  if (multiply({count, element_size}, &expected) && blob.size == expected && blob.data != nullptr) {
    return true;
  }
  return fail(error,
              {role, " holds ", std::to_string(blob.size), " bytes where ", std::to_string(count),
               " elements of ", std::to_string(element_size), " bytes are needed"});
}

}  // namespace edgekit
