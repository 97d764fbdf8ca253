#include "ops/epilogue.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/fused_requantize.h"
#include "ops/check.h"

namespace edgekit {
namespace {

/// The largest product of a stored activation and a weight, in magnitude.
constexpr int64_t kMaxProduct = 255 * 128;

}  // namespace

bool check_accumulators(const int32_t* bias, size_t count, size_t depth, size_t weight_bits,
                        std::string* error) {
  const int64_t limit = std::numeric_limits<int32_t>::max();
  const int64_t room = limit - static_cast<int64_t>(depth) * kMaxProduct;
  const int64_t times = int64_t{1} << (8 - weight_bits);
  for (size_t i = 0; i < count; ++i) {
    if (times * std::abs(int64_t{bias[i]}) > room) {
      return fail(error, {"an accumulator of ", std::to_string(depth), " products and the bias ",
                          std::to_string(bias[i]), " may leave int32"});
    }
  }
  return true;
}

namespace {

/// A sum in float32 has no codes of its own: its scale and zero point mean nothing.
bool check_float_residual(const TensorView& tensor, const TensorView& output, std::string* error) {
  if (tensor.dtype != DType::kFloat32 || !check_tensor(tensor, error)) {
    return fail(error, {"residual ", describe(tensor), " of float32 output ", describe(output),
                        " must hold float32"});
  }
  if (!same_shape(tensor.shape, output.shape)) {
    return fail(error, {"residual ", describe(tensor), " and output ", describe(output),
                        " have different shapes"});
  }
  return check_disjoint(tensor, output, error);
}

bool check_residual(const Residual& residual, const TensorView& output, std::string* error) {
  if (output.dtype == DType::kFloat32) {
    return check_float_residual(residual.tensor, output, error);
  }
  if (!check_codes(residual.tensor, error)) return false;
  if (output.dtype != DType::kCode || !same_shape(residual.tensor.shape, output.shape)) {
    return fail(error, {"residual ", describe(residual.tensor), " and output ", describe(output),
                        " must be codes of the same shape"});
  }
  if (!std::isfinite(residual.scale) || !(residual.scale > 0) || residual.zero_point < -128 ||
      residual.zero_point > 127) {
    return fail(error,
                {"the layer's own scale before the sum is not positive, or its zero point is "
                 "outside [-128, 127]"});
  }
  return check_bounds(residual.lo, residual.hi, error) &&
         check_readable_behind(residual.tensor, error) &&
         check_disjoint(residual.tensor, output, error);
}

/// Points `padded` to the elements of a blob, or to a copy in `own` where it is not padded.
template <class T>
bool find_constants(const EpilogueParams& params, const Blob& blob, const char* role,
                    size_t padded_n, const T** padded, std::vector<T>* own, std::string* error) {
  const size_t n = params.n;
  size_t padded_size = 0;
  if (!multiply({params.groups, padded_n, sizeof(T)}, &padded_size)) {
    return fail(error, {role, " is too large"});
  }
  if (blob.data != nullptr && blob.size == padded_size) {
    *padded = reinterpret_cast<const T*>(blob.data);
    return true;
  }
  if (!check_blob(blob, params.groups * n, sizeof(T), role, error)) return false;
  own->assign(params.groups * padded_n, T{0});
  for (size_t g = 0; g < params.groups; ++g) {
    std::memcpy(own->data() + g * padded_n, blob.data + g * n * sizeof(T), n * sizeof(T));
  }
  *padded = own->data();
  return true;
}

}  // namespace

bool Epilogue::init(const EpilogueParams& params, const PlanTarget& target, std::string* error) {
  TensorView output;
  if (!table_.init(*params.table, *params.output, target, &output, error) ||
      !check_bounds(params.lo, params.hi, error)) {
    return false;
  }
  groups_ = params.groups;
  n_ = params.n;
  padded_n_ = (params.n + params.padding - 1) / params.padding * params.padding;
  channels_ = groups_ * n_;
  if (!find_constants(params, params.bias, "the bias", padded_n_, &bias_, &own_bias_, error) ||
      !find_constants(params, params.multiplier, "the multiplier", padded_n_, &scale_, &own_scale_,
                      error) ||
      !check_accumulators(bias_, params.groups * padded_n_, params.depth, params.weight_bits,
                          error)) {
    return false;
  }
  for (size_t i = 0; i < params.groups * padded_n_; ++i) {
    if (!std::isfinite(scale_[i])) {
      return fail(error, {"a multiplier is infinite or not a number"});
    }
  }

  requantize_.products_fit_16 = products_fit_16(
      bias_, scale_, params.groups * padded_n_,
      static_cast<int64_t>(params.depth) * largest_product(target.storage, params.weight_bits));
  const int32_t offset = storage_offset(target.storage);
  const float lo = static_cast<float>(params.lo - output.zero_point);
  const float hi = static_cast<float>(params.hi - output.zero_point);
  const Residual& residual = *params.residual;
  if (!residual.present) {
    requantize_.lo = lo;
    requantize_.hi = hi;
    requantize_.zero_point = output.zero_point + offset;
    return true;
  }
  if (!check_residual(residual, output, error)) return false;
  residual_ = residual.tensor.data;
  residual_size_ = dtype_size(residual.tensor.dtype);
  requantize_.lo = static_cast<float>(residual.lo - residual.zero_point);
  requantize_.hi = static_cast<float>(residual.hi - residual.zero_point);
  requantize_.zero_point = residual.zero_point + offset;
  requantize_.residual_zero_point = residual.tensor.zero_point + offset;
  requantize_.ratio_a = residual.scale / output.scale;
  requantize_.ratio_b = residual.tensor.scale / output.scale;
  requantize_.sum_zero_point = output.zero_point + offset;
  requantize_.sum_lo = lo;
  requantize_.sum_hi = hi;
  return true;
}

void Epilogue::bound_products(const std::vector<int64_t>& products) {
  requantize_.products_fit_16 = true;
  for (size_t g = 0; g < products.size() / n_; ++g) {
    for (size_t c = 0; c < n_; ++c) {
      const size_t at = g * padded_n_ + c;
      requantize_.products_fit_16 &=
          products_fit_16(&bias_[at], &scale_[at], 1, products[g * n_ + c]);
    }
  }
}

bool Epilogue::fuse(const FusedEpilogue& constants, std::string* error) {
  const size_t count = groups_ * padded_n_;
  if (!check_blob(constants.start, count, sizeof(int32_t), "the start", error) ||
      !check_blob(constants.slope, count, sizeof(float), "the slope", error) ||
      !check_blob(constants.shift, count, sizeof(float), "the shift", error)) {
    return false;
  }
  fused_ = {reinterpret_cast<const int32_t*>(constants.start.data),
            reinterpret_cast<const float*>(constants.slope.data),
            reinterpret_cast<const float*>(constants.shift.data)};
  bool valid = true;
  for (size_t i = 0; i < count; ++i) {
    valid &= is_fused_channel({fused_.start[i], fused_.slope[i], fused_.shift[i]});
  }
  return valid || fail(error, {"the start, slope or shift of a channel is out of range"});
}

Requantize Epilogue::requantize(size_t group, size_t pixel) const {
  Requantize requantize = requantize_;
  requantize.scale = scale_ + group * padded_n_;
  if (fused_.start != nullptr) {
    const size_t at = group * padded_n_;
    requantize.fused = {fused_.start + at, fused_.slope + at, fused_.shift + at};
  }
  if (residual_ != nullptr) {
    requantize.residual = *residual_ + (pixel * channels_ + group * n_) * residual_size_;
    requantize.residual_stride = channels_ * residual_size_;
  }
  return requantize;
}

}  // namespace edgekit
