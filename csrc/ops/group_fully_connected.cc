#include "ops/group_fully_connected.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/gemm/gemm.h"
#include "ops/check.h"
#include "ops/check_floats.h"
#include "ops/epilogue.h"
#include "ops/round_up.h"
#include "ops/row_codes.h"

namespace edgekit {
namespace {

/// Rows whose sums are kept at a time. Up to so many, units are tiles of columns: each thread reads
/// its share of the weights alone.
constexpr size_t kBlockRows = 32;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Shapes and constants, checked.
struct Problem {
  const GemmKernel* kernel = nullptr;
  size_t rows = 0;
  size_t n = 0;
  size_t k = 0;
  size_t group = 0;
  size_t groups = 0;
  /// Of one group: bytes of its weights, and elements of its constants.
  size_t group_bytes = 0;
  size_t padded_n = 0;
  const int8_t* weights = nullptr;
  const int32_t* correction = nullptr;
  const float* multiplier = nullptr;
  const float* bias = nullptr;

  size_t depth_of(size_t g) const { return std::min(group, k - g * group); }
};

/// Units are tiles of columns where rows are few, else rows. Scratch holds the sums of a block of
/// rows twice, one group's being added to the other's, and of float32 rows codes and scales.
class GroupFullyConnected : public Op {
 public:
  GroupFullyConnected(const Problem& problem, const GroupFullyConnectedParams& params,
                      const TensorView& own, const TableStage& table, const PlanTarget& target)
      : problem_(problem),
        input_(params.input.data),
        output_(params.output.data),
        makes_codes_(params.output.dtype == DType::kCode),
        zero_point_(own.zero_point + storage_offset(target.storage)),
        lo_(static_cast<float>(params.lo - own.zero_point)),
        hi_(static_cast<float>(params.hi - own.zero_point)),
        table_(table),
        row_codes_(target),
        quantize_(select_kernel<QuantizeArgs>(target.isa, target.storage).run),
        vector_(select_float_vector(target.isa)),
        by_columns_(problem.rows <= kBlockRows) {
    block_ = std::min(problem.rows, kBlockRows);
    sums_size_ = round_up(block_ * problem.n * sizeof(float), kLineSize);
    scales_size_ = makes_codes_ ? 0 : round_up(block_ * sizeof(float), kLineSize);
  }

  size_t units() const override { return by_columns_ ? tiles() : problem_.rows; }
  size_t granule() const override { return by_columns_ ? 1 : problem_.kernel->mr; }
  size_t cost() const override { return problem_.rows * problem_.n * problem_.k; }
  size_t scratch_size() const override {
    const size_t codes = makes_codes_ ? 0 : block_ * problem_.k + kLineSize;
    return 2 * sums_size_ + scales_size_ + codes;
  }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    if (by_columns_) {
      const size_t first = begin * problem_.kernel->nr;
      const size_t last = std::min(end * problem_.kernel->nr, problem_.n);
      run_block(0, problem_.rows, first, last, scratch);
      return;
    }
    for (size_t row = begin; row < end; row += block_) {
      run_block(row, std::min(block_, end - row), 0, problem_.n, scratch);
    }
  }

 private:
  size_t tiles() const { return (problem_.n + problem_.kernel->nr - 1) / problem_.kernel->nr; }

  /// Computes columns [first, last) of `rows` rows; `first` is a multiple of the kernel's nr.
  void run_block(size_t row, size_t rows, size_t first, size_t last, uint8_t* scratch) const {
    auto* scales = reinterpret_cast<float*>(scratch + 2 * sums_size_);
    const uint8_t* codes = *input_ + row * problem_.k;
    if (!makes_codes_) {
      uint8_t* own = scratch + 2 * sums_size_ + scales_size_;
      const auto* x = reinterpret_cast<const float*>(*input_) + row * problem_.k;
      row_codes_.make(x, rows, problem_.k, own, scales);
      codes = own;
    }
    const size_t width = last - first;
    float* sums = add_groups(codes, rows, first, width, scratch);
    for (size_t i = 0; i < rows; ++i, sums += width) {
      const size_t at = (row + i) * problem_.n + first;
      if (makes_codes_) {
        finish_codes(sums, first, width, *output_ + at);
      } else {
        auto* y = reinterpret_cast<float*>(*output_) + at;
        vector_.binary(
            {FloatOperator::kMul, -kInfinity, kInfinity, width, sums, 1, scales + i, 0, y});
        add_bias(y, first, width, y);
      }
    }
  }

  /// Returns the sums of `width` columns of `rows` rows, one row behind the other.
  float* add_groups(const uint8_t* codes, size_t rows, size_t first, size_t width,
                    uint8_t* scratch) const {
    GemmArgs args = {};
    args.m = rows;
    args.n = width;
    args.taps = 1;
    args.a_stride = problem_.k;
    args.output = Output::kFloat32;
    args.y = scratch;
    args.y_stride = width * sizeof(float);
    args.requantize.residual_stride = args.y_stride;
    for (size_t g = 0; g < problem_.groups; ++g) {
      args.k = problem_.depth_of(g);
      args.a = codes + g * problem_.group;
      args.w = problem_.weights + g * problem_.group_bytes +
               packed_gemm_size(*problem_.kernel, first, args.k, 1);
      args.bias = problem_.correction + g * problem_.padded_n + first;
      args.requantize.scale = problem_.multiplier + g * problem_.padded_n + first;
      if (g != 0) {
        args.output = Output::kFloat32Sum;
        args.requantize.residual = static_cast<const uint8_t*>(args.y);
        args.y = scratch + (g % 2 == 0 ? 0 : sums_size_);
      }
      problem_.kernel->run(args);
    }
    return static_cast<float*>(args.y);
  }

  void add_bias(const float* sums, size_t first, size_t width, float* y) const {
    vector_.binary(
        {FloatOperator::kAdd, -kInfinity, kInfinity, width, sums, 1, problem_.bias + first, 1, y});
  }

  /// Adds the bias to a row's sums, and rounds them to codes.
  void finish_codes(float* sums, size_t first, size_t width, uint8_t* y) const {
    add_bias(sums, first, width, sums);
    QuantizeArgs args = {};
    args.pixels = width;
    args.channels = 1;
    args.channel_step = width;
    args.zero_point = zero_point_;
    args.lo = lo_;
    args.hi = hi_;
    // Quotients are the sums themselves.
    args.scale = 1;
    args.x = sums;
    args.y = y;
    quantize_(args);
    if (table_.present()) table_.apply(y, 1, width, width);
  }

  Problem problem_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  bool makes_codes_;
  int32_t zero_point_;
  float lo_;
  float hi_;
  TableStage table_;
  RowCodes row_codes_;
  void (*quantize_)(const QuantizeArgs&);
  const FloatVectorKernels& vector_;
  bool by_columns_;
  size_t block_ = 0;
  size_t sums_size_ = 0;
  size_t scales_size_ = 0;
};

bool check_tensors(const GroupFullyConnectedParams& params, std::string* error) {
  const TensorView& input = params.input;
  const TensorView& output = params.output;
  if (output.dtype == DType::kCode) {
    if (!check_codes(input, error) || !check_codes(output, error) ||
        !check_readable_behind(input, error) || !check_bounds(params.lo, params.hi, error)) {
      return false;
    }
  } else {
    if (!check_floats(input, error) || !check_floats(output, error)) return false;
    if (params.table.present) return fail(error, {"a table applies to codes alone"});
  }
  return check_disjoint(input, output, error) && check_same_rows(input, output, error);
}

bool find_kernel(const GroupFullyConnectedParams& params, const PlanTarget& target,
                 Problem* problem, std::string* error) {
  problem->kernel = find_gemm_kernel(params.kernel);
  if (problem->kernel == nullptr || problem->kernel->bits != 4) {
    return fail(error, {"kernel '", params.kernel, "' is unknown, or takes no weights of 4 bits"});
  }
  const GemmKernel& kernel = *problem->kernel;
  return check_kernel(kernel.name, kernel.isa, kernel.storage, kernel.run != nullptr, target,
                      error);
}

bool find_constants(const GroupFullyConnectedParams& params, Problem* problem, std::string* error) {
  const GemmKernel& kernel = *problem->kernel;
  if (params.group == 0) return fail(error, {"a group has no weights"});
  problem->group = std::min<size_t>(params.group, problem->k);
  problem->groups = (problem->k + problem->group - 1) / problem->group;
  // No smaller than what is about to be computed, so that it can't overflow.
  if (!multiply({problem->n + kernel.nr, problem->k + problem->groups * (2 * kernel.kr + kLineSize),
                 sizeof(float)},
                nullptr) ||
      !multiply({kBlockRows + kernel.mr, problem->k + kLineSize}, nullptr) ||
      !multiply({kBlockRows + kernel.mr, problem->n + kLineSize, sizeof(float)}, nullptr)) {
    return fail(error, {"the weights are too large"});
  }
  problem->group_bytes =
      round_up(packed_gemm_size(kernel, problem->n, problem->group, 1), kLineSize);
  problem->padded_n = round_up(problem->n, size_t{kernel.nr});
  const size_t last =
      packed_gemm_size(kernel, problem->n, problem->depth_of(problem->groups - 1), 1);
  const size_t constants = problem->groups * problem->padded_n;
  if (!check_blob(params.weights, (problem->groups - 1) * problem->group_bytes + last, 1,
                  "the weights", error) ||
      !check_blob(params.correction, constants, sizeof(int32_t), "the correction", error) ||
      !check_blob(params.multiplier, constants, sizeof(float), "the multiplier", error) ||
      !check_blob(params.bias, problem->n, sizeof(float), "the bias", error)) {
    return false;
  }
  problem->weights = reinterpret_cast<const int8_t*>(params.weights.data);
  problem->correction = reinterpret_cast<const int32_t*>(params.correction.data);
  problem->multiplier = reinterpret_cast<const float*>(params.multiplier.data);
  problem->bias = reinterpret_cast<const float*>(params.bias.data);
  if (!check_accumulators(problem->correction, constants, problem->group, kernel.bits, error)) {
    return false;
  }
  for (size_t i = 0; i < constants; ++i) {
    if (!std::isfinite(problem->multiplier[i])) {
      return fail(error, {"a multiplier is infinite or not a number"});
    }
  }
  return true;
}

}  // namespace

std::unique_ptr<Op> make_group_fully_connected(const GroupFullyConnectedParams& params,
                                               const PlanTarget& target, std::string* error) {
  if (!check_tensors(params, error)) return nullptr;
  Problem problem;
  const Shape& in = params.input.shape;
  const Shape& out = params.output.shape;
  problem.rows = element_count(in, 0, in.rank - 1);
  problem.n = static_cast<size_t>(out.dims[out.rank - 1]);
  problem.k = static_cast<size_t>(in.dims[in.rank - 1]);
  TensorView own = params.output;
  TableStage table;
  if (!find_kernel(params, target, &problem, error) || !find_constants(params, &problem, error) ||
      !table.init(params.table, params.output, target, &own, error)) {
    return nullptr;
  }
  return std::make_unique<GroupFullyConnected>(problem, params, own, table, target);
}

}  // namespace edgekit
