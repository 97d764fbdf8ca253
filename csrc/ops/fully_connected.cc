#include "ops/fully_connected.h"

#include <utility>

#include "ops/check.h"
#include "ops/pointwise.h"

namespace edgekit {
namespace {

bool check_tensors(const TensorView& input, const TensorView& output, std::string* error) {
  return check_codes(input, error) && check_tensor(output, error) &&
         check_readable_behind(input, error) && check_disjoint(input, output, error) &&
         check_same_rows(input, output, error);
}

}  // namespace

std::unique_ptr<Op> make_fully_connected(const FullyConnectedParams& params,
                                         const PlanTarget& target, std::string* error) {
  if (!check_tensors(params.input, params.output, error)) return nullptr;
  const Shape& in = params.input.shape;
  const Shape& out = params.output.shape;
  const Residual no_residual;
  GemmLayerParams layer_params;
  layer_params.kernel = params.kernel;
  layer_params.weights = params.weights;
  layer_params.groups = 1;
  layer_params.n = static_cast<size_t>(out.dims[out.rank - 1]);
  layer_params.k = static_cast<size_t>(in.dims[in.rank - 1]);
  layer_params.taps = 1;
  layer_params.bias = params.bias;
  layer_params.multiplier = params.multiplier;
  layer_params.lo = params.lo;
  layer_params.hi = params.hi;
  layer_params.output = &params.output;
  layer_params.residual = &no_residual;
  layer_params.table = &params.table;
  layer_params.fused = params.fused;
  GemmLayer layer;
  if (!layer.init(layer_params, target, error)) return nullptr;
  return make_pointwise(std::move(layer), params.input, element_count(in, 0, in.rank - 1), 0,
                        target);
}

}  // namespace edgekit
