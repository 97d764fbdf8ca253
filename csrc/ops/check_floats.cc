#include "ops/check_floats.h"

#include "ops/check.h"

namespace edgekit {

bool check_floats(const TensorView& tensor, std::string* error) {
  if (!check_tensor(tensor, error)) return false;
  if (tensor.dtype == DType::kFloat32) return true;
  return fail(error, {"tensor ", describe(tensor), " must hold float32"});
}

bool check_float_bounds(float lo, float hi, std::string* error) {
  return lo <= hi || fail(error, {"the bounds are empty"});
}

bool check_float_images(const TensorView& input, const TensorView& output, std::string* error) {
  if (!check_floats(input, error) || !check_floats(output, error)) return false;
  const int64_t* in = input.shape.dims;
  const int64_t* out = output.shape.dims;
  if (input.shape.rank != 4 || output.shape.rank != 4 || in[0] != out[0] || in[3] != out[3]) {
    return fail(error, {"input ", describe(input), " and output ", describe(output),
                        " must be [n, h, w, c] of the same images and channels"});
  }
  return check_disjoint(input, output, error);
}

bool check_float_pair(const TensorView& input, const TensorView& output, std::string* error) {
  if (!check_floats(input, error) || !check_floats(output, error)) return false;
  if (input.shape.rank == 0 || !same_shape(input.shape, output.shape)) {
    return fail(error, {"input ", describe(input), " and output ", describe(output),
                        " must have the same shape and a last dimension"});
  }
  return check_disjoint_or_same(input, output, error);
}

}  // namespace edgekit
