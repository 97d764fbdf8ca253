#include "ops/gemm_layer.h"

#include "kernels/fused_requantize.h"
#include "ops/check.h"
#include "ops/round_up.h"

namespace edgekit {
namespace {

bool check_dense(const GemmLayerParams& params, const GemmKernel& kernel, size_t* group_size,
                 std::string* error) {
  // No smaller than what packed_gemm_size() is about to compute, so that it can't overflow.
  if (!multiply({params.groups, params.n + kernel.panel, params.taps, params.k + kernel.kr},
                nullptr)) {
    return fail(error, {"the weights are too large"});
  }
  const size_t size = packed_gemm_size(kernel, params.n, params.k, params.taps);
  *group_size = round_up(size, kLineSize);
  const size_t expected = (params.groups - 1) * *group_size + size;
  if (params.weights.data != nullptr && params.weights.size >= expected &&
      params.weights.size <= params.groups * *group_size) {
    return true;
  }
  return fail(error, {"the weights hold ", std::to_string(params.weights.size),
                      " bytes where kernel '", kernel.name, "' needs ", std::to_string(expected)});
}

bool check_sparse(const GemmLayerParams& params, const GemmKernel& kernel, std::string* error) {
  if (params.groups != 1) {
    return fail(error, {"kernel '", kernel.name, "' takes one group"});
  }
  // The product bounds every list, step and block of the reader's check.
  if (!multiply({params.n + kernel.nr, params.taps, params.k + kernel.kr}, nullptr)) {
    return fail(error, {"the weights are too large"});
  }
  const char* wrong = check_sparse_gemm(kernel, params.weights.data, params.weights.size, params.n,
                                        params.k, params.taps);
  if (wrong == nullptr) return true;
  return fail(error, {"the sparse weights for kernel '", kernel.name, "' ", wrong});
}

bool find_output(const TensorView& output, Output* kind, std::string* error) {
  switch (output.dtype) {
    case DType::kCode:
      *kind = Output::kCodes;
      return true;
    case DType::kInt32:
      *kind = Output::kInt32;
      return true;
    case DType::kFloat32:
      *kind = Output::kFloat32;
      return true;
    default:
      return fail(error, {"output ", describe(output), " must hold codes, int32 or float32"});
  }
}

}  // namespace

bool GemmLayer::init(const GemmLayerParams& params, const PlanTarget& target, std::string* error) {
  kernel_ = find_gemm_kernel(params.kernel);
  if (kernel_ == nullptr) kernel_ = find_sparse_gemm_kernel(params.kernel);
  if (kernel_ == nullptr) {
    return fail(error, {"kernel '", params.kernel,
                        "' is unknown: the plan was written by another version, deploy anew"});
  }
  if (!check_kernel(kernel_->name, kernel_->isa, kernel_->storage, kernel_->run != nullptr, target,
                    error) ||
      !read_weights(params, error) || !find_output(*params.output, &kind_, error)) {
    return false;
  }
  if (params.residual->present && kind_ == Output::kFloat32) kind_ = Output::kFloat32Sum;
  output_ = params.output->data;
  element_size_ = dtype_size(params.output->dtype);
  y_stride_ = pixel_stride(*params.output);
  EpilogueParams epilogue;
  epilogue.bias = params.bias;
  epilogue.multiplier = params.multiplier;
  epilogue.groups = groups_;
  epilogue.n = n_;
  epilogue.padding = kernel_->nr;
  epilogue.depth = k_ * taps_;
  epilogue.weight_bits = kernel_->bits;
  epilogue.lo = params.lo;
  epilogue.hi = params.hi;
  epilogue.output = params.output;
  epilogue.residual = params.residual;
  epilogue.table = params.table;
  if (!epilogue_.init(epilogue, target, error)) return false;
  // Only the kernels of this storage gain by it.
  if (target.storage == Storage::kS8 && !epilogue_.are_products_bounded()) {
    epilogue_.bound_products(bound_products());
  }
  return !params.fused.present || take_fused(params, error);
}

bool GemmLayer::take_fused(const GemmLayerParams& params, std::string* error) {
  if (kind_ != Output::kCodes || params.residual->present) {
    return fail(error, {"only codes without a residual are requantized in one operation"});
  }
  // To another kernel its constants say nothing.
  return !fuses(*kernel_) || epilogue_.fuse(params.fused, error);
}

bool GemmLayer::read_weights(const GemmLayerParams& params, std::string* error) {
  groups_ = params.groups;
  n_ = params.n;
  k_ = params.k;
  taps_ = params.taps;
  if (kernel_->sparse) {
    if (!check_sparse(params, *kernel_, error)) return false;
    sparse_ = sparse_weights(*kernel_, params.weights.data, n_, taps_);
    weights_ = sparse_.w;
    return true;
  }
  if (!check_dense(params, *kernel_, &group_size_, error)) return false;
  weights_ = reinterpret_cast<const int8_t*>(params.weights.data);
  for (size_t g = 0; g < groups_; ++g) {
    const std::vector<uint8_t> wide =
        find_wide_steps(*kernel_, weights_ + g * group_size_, n_, k_, taps_);
    wide_size_ = wide.size();
    wide_steps_.insert(wide_steps_.end(), wide.begin(), wide.end());
  }
  return true;
}

std::vector<int64_t> GemmLayer::bound_products() const {
  std::vector<int64_t> products;
  for (size_t g = 0; g < groups_; ++g) {
    const std::vector<int64_t> sums =
        kernel_->sparse ? sum_magnitudes(*kernel_, sparse_, n_, taps_)
                        : sum_magnitudes(*kernel_, weights_ + g * group_size_, n_, k_, taps_);
    for (const int64_t sum : sums) products.push_back(-int64_t{INT8_MIN} * sum);
  }
  return products;
}

GemmArgs GemmLayer::args(size_t group, size_t row, size_t m) const {
  GemmArgs args = {};
  args.m = m;
  args.n = n_;
  args.k = k_;
  args.taps = taps_;
  args.w = weights_ + group * group_size_;
  args.wide_steps = wide_size_ == 0 ? nullptr : wide_steps_.data() + group * wide_size_;
  args.block_starts = sparse_.starts;
  args.block_steps = sparse_.steps;
  args.bias = epilogue_.bias(group);
  args.requantize = epilogue_.requantize(group, row);
  args.output = kind_;
  args.y_stride = y_stride_;
  args.y = *output_ + row * args.y_stride + group * n_ * element_size_;
  return args;
}

void GemmLayer::cut_columns(size_t first, size_t columns, GemmArgs* args) const {
  args->n = columns < n_ - first ? columns : n_ - first;
  if (kernel_->sparse) {
    args->block_starts += first / kernel_->nr * taps_;
  } else {
    args->w += packed_gemm_size(*kernel_, first, k_, taps_);
  }
  args->bias += first;
  args->requantize.scale += first;
  FusedRequantize& fused = args->requantize.fused;
  if (fused.start != nullptr) {
    fused = {fused.start + first, fused.slope + first, fused.shift + first};
  }
  if (args->requantize.residual != nullptr) args->requantize.residual += first * element_size_;
  args->y = static_cast<uint8_t*>(args->y) + first * element_size_;
}

void GemmLayer::run(const GemmArgs& args) const {
  const TableStage& table = epilogue_.table();
  if (!table.present()) {
    kernel_->run(args);
    return;
  }
  const size_t block = TableStage::block_rows(args.n, kernel_->mr);
  for (size_t first = 0; first < args.m; first += block) {
    GemmArgs part = args;
    part.m = args.m - first < block ? args.m - first : block;
    if (args.rows != nullptr) {
      part.rows += first * args.taps;
    } else {
      part.a += first * args.a_stride;
    }
    if (args.requantize.residual != nullptr) {
      part.requantize.residual += first * args.requantize.residual_stride;
    }
    uint8_t* y = static_cast<uint8_t*>(args.y) + first * args.y_stride;
    part.y = y;
    kernel_->run(part);
    table.apply(y, part.m, args.n, args.y_stride);
  }
}

}  // namespace edgekit
