#include "ops/float_conv_transpose.h"

#include <utility>
#include <vector>

#include "ops/check.h"
#include "ops/check_floats.h"
#include "ops/phase_rows.h"
#include "ops/phases.h"
#include "ops/round_up.h"

namespace edgekit {
namespace {

bool check_tensors(const FloatConvTransposeParams& params, std::string* error) {
  return check_floats(params.input, error) && check_floats(params.output, error) &&
         check_disjoint(params.input, params.output, error);
}

/// Cuts the constants of one phase after another from those of all.
class PhaseReader {
 public:
  /// `n`: output channels of a group, times the columns that are joined.
  PhaseReader(const FloatConvTransposeParams& params, const FloatGemmKernel& kernel, size_t n)
      : params_(params), kernel_(kernel), n_(n) {}

  bool read(size_t taps, const PlanTarget& target, FloatLayer* layer, std::string* error) {
    const size_t n = n_;
    const size_t groups = params_.groups;
    const size_t k = static_cast<size_t>(params_.input.shape.dims[3]) / groups;
    if (!multiply({groups, n + kernel_.panel, taps, k, sizeof(float)}, nullptr)) {
      return fail(error, {"the weights are too large"});
    }
    const size_t size = groups * packed_float_gemm_size(kernel_, n, k, taps) * sizeof(float);
    FloatEpilogue epilogue;
    epilogue.lo = params_.lo;
    epilogue.hi = params_.hi;
    FloatLayerParams layer_params;
    layer_params.kernel = params_.kernel;
    layer_params.groups = groups;
    layer_params.n = n;
    layer_params.k = k;
    layer_params.taps = taps;
    layer_params.epilogue = &epilogue;
    layer_params.output = &params_.output;
    if (!cut_phase(params_.weights, size, &weights_, &layer_params.weights) ||
        !cut_phase(params_.bias, groups * n * sizeof(float), &bias_, &epilogue.bias)) {
      return fail(error, {"weights or bias end before the last phase"});
    }
    weights_ = round_up(weights_, kLineSize);
    return layer->init(layer_params, target, error);
  }

 private:
  const FloatConvTransposeParams& params_;
  const FloatGemmKernel& kernel_;
  size_t n_;
  size_t weights_ = 0;
  size_t bias_ = 0;
};

}  // namespace

std::unique_ptr<Op> make_float_conv_transpose(const FloatConvTransposeParams& params,
                                              const PlanTarget& target, std::string* error) {
  Phases phases;
  if (!check_tensors(params, error) ||
      !find_phases(params.window, params.input, params.output, params.groups, params.weights,
                   params.bias, &phases, error) ||
      !check_groups(params.groups, params.input, params.output, error)) {
    return nullptr;
  }
  const FloatGemmKernel* kernel = find_float_gemm_kernel(params.kernel);
  if (kernel == nullptr) {
    fail(error, {"kernel '", params.kernel, "' is unknown"});
    return nullptr;
  }
  const size_t k = static_cast<size_t>(params.input.shape.dims[3]) / params.groups;
  const size_t own = static_cast<size_t>(params.output.shape.dims[3]) / params.groups;
  const size_t n = phases.joined ? own * params.window.kernel_w : own;
  PhaseReader reader(params, *kernel, n);
  return make_phase_rows<FloatLayer>(params, std::move(phases), std::vector<float>(k), &reader,
                                     target, error);
}

}  // namespace edgekit
