#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "ops/op.h"
#include "ops/tensor.h"
#include "ops/window.h"

namespace edgekit {

// What factories ask of their parameters. A check that fails writes to `error` what is wrong and
// returns false.

/// Writes the message, which the parts make together; returns false.
bool fail(std::string* error, std::initializer_list<std::string_view> parts);

/// Returns "'name' [1, 2, 3]" for a message.
std::string describe(const TensorView& tensor);

/// Multiplies without overflow: returns false when the product exceeds 2^40 (on 32-bit machines,
/// what an allocation can hold). `product` may be null.
bool multiply(std::initializer_list<uint64_t> factors, size_t* product);

/// Returns the number of elements of a shape that check_tensor() has passed.
size_t element_count(const Shape& shape);

/// Returns the product of the dimensions [begin, end) of a shape that check_tensor() has passed.
size_t element_count(const Shape& shape, size_t begin, size_t end);

bool same_shape(const Shape& a, const Shape& b);

/// Returns the bytes of a run of the last dimension, of a shape that check_tensor() has passed.
size_t pixel_size(const TensorView& tensor);

/// Returns the bytes from one run of the last dimension to the next.
size_t pixel_stride(const TensorView& tensor);

/// Returns the tensor as if it had no gaps, for the checks of an op that can take them.
TensorView without_gaps(const TensorView& tensor);

/// Returns whether `part` is where elements [begin...] of `whole` in each dimension, one after
/// another, lie.
bool lies_in_place(const TensorView& part, const TensorView& whole, const size_t* begin);

/// Checks that there are no gaps, and rank, dimensions (each at least 1), size, type and memory
/// and, for codes, the quantization.
bool check_tensor(const TensorView& tensor, std::string* error);

/// check_tensor(), and the tensor holds codes.
bool check_codes(const TensorView& tensor, std::string* error);

/// check_codes(), and the tensor is [n, h, w, c].
bool check_image(const TensorView& tensor, std::string* error);

/// Checks that the tensor lies in the arena, where 64 bytes behind its end can be read.
bool check_readable_behind(const TensorView& tensor, std::string* error);

/// Checks that two tensors share no byte. Tensors that are not in the arena are the caller's
/// promise.
bool check_disjoint(const TensorView& input, const TensorView& output, std::string* error);

/// Checks that two tensors of the same shape share no byte or are the very same memory.
bool check_disjoint_or_same(const TensorView& input, const TensorView& output, std::string* error);

/// Checks that both tensors have the same type and, for codes, the same scale and zero point.
bool check_same_type(const TensorView& input, const TensorView& output, std::string* error);

/// Checks that both tensors have a last dimension and the same number of rows before it.
bool check_same_rows(const TensorView& input, const TensorView& output, std::string* error);

/// Checks -128 <= lo <= hi <= 127.
bool check_bounds(int32_t lo, int32_t hi, std::string* error);

/// Checks that the window moved over the images of `input` gives the height and width of `output`.
bool check_window(const Window& window, const TensorView& input, const TensorView& output,
                  std::string* error);

/// Checks that the channels of both images can be cut into so many groups.
bool check_groups(uint32_t groups, const TensorView& input, const TensorView& output,
                  std::string* error);

/// Checks that kernel `name` (its other facts as in its row) was built, runs here, and may be used
/// by a plan for `target`.
bool check_kernel(const char* name, Isa isa, Storage storage, bool built, const PlanTarget& target,
                  std::string* error);

/// Checks a blob of `count` elements of `element_size` bytes. `role` names it in the message.
bool check_blob(const Blob& blob, size_t count, size_t element_size, const char* role,
                std::string* error);

}  // namespace edgekit
