#include "ops/int4_fully_connected.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/float_gemm/float_gemm.h"
#include "kernels/nibble_floats/nibble_floats.h"
#include "ops/check.h"
#include "ops/check_floats.h"
#include "ops/round_up.h"

namespace edgekit {
namespace {

/// So much of k, and so many panels, are float32 at a time: they stay in the nearest cache, and a
/// single row has enough sums that do not wait for each other.
constexpr size_t kDepth = 64;
constexpr size_t kMostPanels = 8;
/// Panels of a unit.
constexpr size_t kUnitPanels = 4;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Shapes and constants, checked.
struct Problem {
  const FloatGemmKernel* kernel = nullptr;
  size_t rows = 0;
  size_t n = 0;
  size_t k = 0;
  size_t group = 0;
  const int8_t* weights = nullptr;
  const float* scales = nullptr;

  size_t panels() const { return (n + kernel->panel - 1) / kernel->panel; }
  size_t groups() const { return (k + group - 1) / group; }
  size_t pairs() const { return (k + 1) / 2; }
};

/// Units are runs of columns. Scratch holds float32 weights.
class Int4FullyConnected : public Op {
 public:
  Int4FullyConnected(const Problem& problem, const Int4FullyConnectedParams& params,
                     const PlanTarget& target)
      : problem_(problem),
        input_(params.input.data),
        output_(params.output.data),
        residual_(params.epilogue.adds ? params.epilogue.residual.data : nullptr),
        bias_(padded_floats(params.epilogue.bias, problem.kernel->panel)),
        lo_(params.epilogue.lo),
        hi_(params.epilogue.hi),
        make_floats_(select_kernel<NibbleFloatsArgs>(target.isa, target.storage).run) {}

  size_t units() const override { return (problem_.panels() + kUnitPanels - 1) / kUnitPanels; }
  size_t cost() const override { return (problem_.rows + 1) * problem_.n * problem_.k; }
  size_t scratch_size() const override {
    return kMostPanels * problem_.kernel->panel * (kDepth + 1) * sizeof(float);
  }

  void run(size_t begin, size_t end, uint8_t* scratch) const override {
    const size_t last = std::min(end * kUnitPanels, problem_.panels());
    for (size_t panel = begin * kUnitPanels; panel < last; panel += kMostPanels) {
      run_panels(panel, std::min(kMostPanels, last - panel), reinterpret_cast<float*>(scratch));
    }
  }

 private:
  /// Computes the columns of `count` panels.
  void run_panels(size_t panel, size_t count, float* weights) const {
    const size_t width = problem_.kernel->panel;
    const size_t column = panel * width;
    FloatGemmArgs args = {};
    args.m = problem_.rows;
    args.n = std::min(count * width, problem_.n - column);
    args.taps = 1;
    args.a_stride = problem_.k * sizeof(float);
    args.w = weights;
    args.bias = bias_.data() + column;
    args.lo = -kInfinity;
    args.hi = kInfinity;
    args.y = reinterpret_cast<float*>(*output_) + column;
    args.y_stride = problem_.n * sizeof(float);
    args.residual_stride = args.y_stride;
    for (size_t k = 0; k < problem_.k; k += kDepth) {
      args.k = std::min(kDepth, problem_.k - k);
      args.a = reinterpret_cast<const float*>(*input_) + k;
      args.goes_on = k != 0;
      if (k + args.k == problem_.k) {
        args.lo = lo_;
        args.hi = hi_;
        if (residual_ != nullptr) {
          args.residual = reinterpret_cast<const float*>(*residual_) + column;
        }
      }
      for (size_t p = 0; p < count; ++p) {
        make_weights(panel + p, k, args.k, weights + p * args.k * width);
      }
      problem_.kernel->run(args);
    }
  }

  /// Makes rows [k, k + depth) of a panel, k even; one more where depth is odd.
  void make_weights(size_t panel, size_t k, size_t depth, float* to) const {
    const size_t width = problem_.kernel->panel;
    const size_t padded = problem_.panels() * width;
    for (size_t done = 0; done < depth;) {
      const size_t g = (k + done) / problem_.group;
      const size_t count = std::min((g + 1) * problem_.group - k, depth) - done;
      NibbleFloatsArgs args = {};
      args.pairs = (count + 1) / 2;
      args.panel = width;
      args.w = problem_.weights + (panel * problem_.pairs() + (k + done) / 2) * width;
      args.scale = problem_.scales + g * padded + panel * width;
      args.y = to + done * width;
      make_floats_(args);
      done += count;
    }
  }

  Problem problem_;
  uint8_t* const* input_;
  uint8_t* const* output_;
  uint8_t* const* residual_;
  std::vector<float> bias_;
  float lo_;
  float hi_;
  void (*make_floats_)(const NibbleFloatsArgs&);
};

bool find_constants(const Int4FullyConnectedParams& params, Problem* problem, std::string* error) {
  if (params.group == 0) return fail(error, {"a group has no weights"});
  problem->group = std::min<size_t>(params.group, problem->k);
  if (problem->group % 2 != 0 && problem->group != problem->k) {
    return fail(error, {"a group of ", std::to_string(params.group), " weights cuts bytes in two"});
  }
  const size_t panel = problem->kernel->panel;
  // No smaller than what is about to be computed, so that it can't overflow.
  if (!multiply({problem->n + panel, problem->k + 2, sizeof(float)}, nullptr)) {
    return fail(error, {"the weights are too large"});
  }
  const size_t padded = problem->panels() * panel;
  const size_t scales = problem->groups() * padded;
  if (!check_blob(params.weights, padded * problem->pairs(), 1, "the weights", error) ||
      !check_blob(params.scales, scales, sizeof(float), "the scales", error)) {
    return false;
  }
  problem->weights = reinterpret_cast<const int8_t*>(params.weights.data);
  problem->scales = reinterpret_cast<const float*>(params.scales.data);
  for (size_t i = 0; i < scales; ++i) {
    if (!std::isfinite(problem->scales[i])) {
      return fail(error, {"a scale is infinite or not a number"});
    }
  }
  return true;
}

}  // namespace

std::unique_ptr<Op> make_int4_fully_connected(const Int4FullyConnectedParams& params,
                                              const PlanTarget& target, std::string* error) {
  if (!check_floats(params.input, error) || !check_floats(params.output, error) ||
      !check_disjoint(params.input, params.output, error) ||
      !check_same_rows(params.input, params.output, error)) {
    return nullptr;
  }
  Problem problem;
  const Shape& in = params.input.shape;
  const Shape& out = params.output.shape;
  problem.rows = element_count(in, 0, in.rank - 1);
  problem.n = static_cast<size_t>(out.dims[out.rank - 1]);
  problem.k = static_cast<size_t>(in.dims[in.rank - 1]);
  problem.kernel = find_float_gemm_kernel(params.kernel);
  if (problem.kernel == nullptr) {
    fail(error, {"kernel '", params.kernel, "' is unknown"});
    return nullptr;
  }
  const FloatGemmKernel& kernel = *problem.kernel;
  if (!check_kernel(kernel.name, kernel.isa, target.storage, kernel.run != nullptr, target,
                    error) ||
      !find_constants(params, &problem, error) ||
      !check_float_epilogue(params.epilogue, problem.n, params.output, error)) {
    return nullptr;
  }
  return std::make_unique<Int4FullyConnected>(problem, params, target);
}

}  // namespace edgekit
