#include "ops/conv_transpose.h"

#include <utility>
#include <vector>

#include "ops/check.h"
#include "ops/gemm_layer.h"
#include "ops/phase_rows.h"
#include "ops/phases.h"
#include "ops/round_up.h"

namespace edgekit {
namespace {

/// What GemmArgs promises behind each row.
constexpr size_t kReadBehind = 64;

bool check_tensors(const ConvTransposeParams& params, std::string* error) {
  return check_image(params.input, error) && check_tensor(params.output, error) &&
         check_readable_behind(params.input, error) &&
         check_disjoint(params.input, params.output, error);
}

/// Cuts the constants of one phase after another from those of all.
class PhaseReader {
 public:
  /// `n`: output channels, times the columns that are joined.
  PhaseReader(const ConvTransposeParams& params, const GemmKernel& kernel, size_t n)
      : params_(params), kernel_(kernel), n_(n) {}

  bool read(size_t taps, const PlanTarget& target, GemmLayer* layer, std::string* error) {
    const size_t n = n_;
    const size_t k = static_cast<size_t>(params_.input.shape.dims[3]);
    if (!multiply({n + kernel_.panel, taps, k + kernel_.kr}, nullptr)) {
      return fail(error, {"the weights are too large"});
    }
    const size_t size = packed_gemm_size(kernel_, n, k, taps);
    const Residual no_residual;
    GemmLayerParams layer_params;
    layer_params.kernel = params_.kernel;
    layer_params.groups = 1;
    layer_params.n = n;
    layer_params.k = k;
    layer_params.taps = taps;
    layer_params.lo = params_.lo;
    layer_params.hi = params_.hi;
    layer_params.output = &params_.output;
    layer_params.residual = &no_residual;
    layer_params.table = &params_.table;
    if (!cut_phase(params_.weights, size, &weights_, &layer_params.weights) ||
        !cut_phase(params_.bias, n * sizeof(int32_t), &bias_, &layer_params.bias) ||
        !cut_phase(params_.multiplier, n * sizeof(float), &multiplier_, &layer_params.multiplier)) {
      return fail(error, {"weights, bias or multipliers end before the last phase"});
    }
    weights_ = round_up(weights_, kLineSize);
    return layer->init(layer_params, target, error);
  }

 private:
  const ConvTransposeParams& params_;
  const GemmKernel& kernel_;
  size_t n_;
  size_t weights_ = 0;
  size_t bias_ = 0;
  size_t multiplier_ = 0;
};

}  // namespace

std::unique_ptr<Op> make_conv_transpose(const ConvTransposeParams& params, const PlanTarget& target,
                                        std::string* error) {
  Phases phases;
  if (!check_tensors(params, error) || !find_phases(params.window, params.input, params.output, 1,
                                                    params.weights, params.bias, &phases, error)) {
    return nullptr;
  }
  const GemmKernel* kernel = find_gemm_kernel(params.kernel);
  if (kernel == nullptr) {
    fail(error, {"kernel '", params.kernel, "' is unknown"});
    return nullptr;
  }
  const auto channels = static_cast<size_t>(params.output.shape.dims[3]);
  const size_t n = phases.joined ? channels * params.window.kernel_w : channels;
  PhaseReader reader(params, *kernel, n);
  std::vector<uint8_t> zero_row(
      static_cast<size_t>(params.input.shape.dims[3]) + kReadBehind,
      static_cast<uint8_t>(params.input.zero_point + storage_offset(target.storage)));
  return make_phase_rows<GemmLayer>(params, std::move(phases), std::move(zero_row), &reader, target,
                                    error);
}

}  // namespace edgekit
