#include "runtime/bind_op.h"

#include <string_view>

#include "ops/arg_extreme.h"
#include "ops/binary.h"
#include "ops/cast.h"
#include "ops/compare.h"
#include "ops/concat.h"
#include "ops/conv.h"
#include "ops/conv_transpose.h"
#include "ops/depthwise.h"
#include "ops/dynamic_fully_connected.h"
#include "ops/float_conv.h"
#include "ops/float_conv_transpose.h"
#include "ops/float_elementwise.h"
#include "ops/float_layer_norm.h"
#include "ops/float_matmul.h"
#include "ops/float_pool.h"
#include "ops/float_reduce.h"
#include "ops/float_resize.h"
#include "ops/float_softmax.h"
#include "ops/fully_connected.h"
#include "ops/gather.h"
#include "ops/global_mean.h"
#include "ops/group_fully_connected.h"
#include "ops/int4_fully_connected.h"
#include "ops/integer_binary.h"
#include "ops/lookup.h"
#include "ops/matmul.h"
#include "ops/move.h"
#include "ops/pool.h"
#include "ops/quantize.h"
#include "ops/quantize_parts.h"
#include "ops/resize.h"
#include "ops/softmax.h"
#include "ops/wide_layer.h"

namespace edgekit {
namespace {

/// Reads the parameters of one kind of op after another out of the plan.
class Binder {
 public:
  Binder(const std::vector<TensorView>& tensors, const uint8_t* constants, const PlanTarget& target,
         std::string* error)
      : tensors_(tensors), constants_(constants), target_(target), error_(error) {}

  std::unique_ptr<Op> bind(const plan::Conv& op) const {
    ConvParams params = unary<ConvParams>(op);
    read_weighted(op, &params);
    params.weight_bits = op.weight_bits();
    params.groups = op.groups();
    params.window = window(op);
    params.patches = op.patches();
    params.residual = residual(op.residual());
    params.table = table(op.table());
    params.fused = fused(op.fused());
    return make_conv(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::FullyConnected& op) const {
    FullyConnectedParams params = unary<FullyConnectedParams>(op);
    read_weighted(op, &params);
    params.table = table(op.table());
    params.fused = fused(op.fused());
    return make_fully_connected(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::DepthwiseConv& op) const {
    DepthwiseParams params = unary<DepthwiseParams>(op);
    read_weighted(op, &params);
    params.weight_bits = op.weight_bits();
    params.window = window(op);
    params.residual = residual(op.residual());
    params.table = table(op.table());
    return make_depthwise(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Binary& op) const {
    BinaryParams params;
    params.kind = static_cast<BinaryKind>(op.kind());
    params.a = tensors_[op.a()];
    params.b = tensors_[op.b()];
    params.output = tensors_[op.output()];
    read_range(op, &params);
    params.table = table(op.table());
    return make_binary(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Pool& op) const {
    PoolParams params = unary<PoolParams>(op);
    params.kind = static_cast<PoolKind>(op.kind());
    params.window = window(op);
    params.count_include_pad = op.count_include_pad();
    read_range(op, &params);
    return make_pool(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::GlobalMean& op) const {
    GlobalMeanParams params = unary<GlobalMeanParams>(op);
    read_range(op, &params);
    return make_global_mean(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Lookup& op) const {
    LookupParams params = unary<LookupParams>(op);
    params.table = blob(*op.table());
    return make_lookup(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Softmax& op) const {
    SoftmaxParams params = unary<SoftmaxParams>(op);
    params.table = blob(*op.table());
    return make_softmax(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Quantize& op) const {
    return make_quantize(unary<QuantizeParams>(op), target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::QuantizeParts& op) const {
    QuantizePartsParams params = unary<QuantizePartsParams>(op);
    read_range(op, &params);
    return make_quantize_parts(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Dequantize& op) const {
    return make_dequantize(unary<DequantizeParams>(op), target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Requantize& op) const {
    RequantizeParams params = unary<RequantizeParams>(op);
    read_range(op, &params);
    return make_requantize(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Concat& op) const {
    ConcatParams params;
    for (const uint32_t index : *op.inputs()) params.inputs.push_back(tensors_[index]);
    params.output = tensors_[op.output()];
    params.axis = op.axis();
    return make_concat(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Reshape& op) const {
    return make_reshape(unary<ReshapeParams>(op), target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Transpose& op) const {
    TransposeParams params = unary<TransposeParams>(op);
    params.permutation.assign(op.permutation()->begin(), op.permutation()->end());
    return make_transpose(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Pad& op) const {
    PadParams params = unary<PadParams>(op);
    params.pads.assign(op.pads()->begin(), op.pads()->end());
    params.value = op.value();
    params.real = op.real();
    return make_pad(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Slice& op) const {
    SliceParams params = unary<SliceParams>(op);
    params.begin.assign(op.begin()->begin(), op.begin()->end());
    params.step.assign(op.step()->begin(), op.step()->end());
    return make_slice(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::FloatConv& op) const {
    FloatConvParams params = unary<FloatConvParams>(op);
    read_float_layer(op, &params);
    params.weight_bits = op.weight_bits();
    params.groups = op.groups();
    params.window = window(op);
    return make_float_conv(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::FloatDepthwiseConv& op) const {
    FloatDepthwiseParams params = unary<FloatDepthwiseParams>(op);
    read_float_layer(op, &params);
    params.weight_bits = op.weight_bits();
    params.window = window(op);
    return make_float_depthwise(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::FloatFullyConnected& op) const {
    FloatFullyConnectedParams params = unary<FloatFullyConnectedParams>(op);
    read_float_layer(op, &params);
    params.weight_bits = op.weight_bits();
    return make_float_fully_connected(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::DynamicFullyConnected& op) const {
    DynamicFullyConnectedParams params = unary<DynamicFullyConnectedParams>(op);
    params.kernel = op.kernel()->c_str();
    params.weights = blob(*op.weights());
    params.correction = blob(*op.correction());
    params.multiplier = blob(*op.multiplier());
    params.bias = blob(*op.bias());
    params.whole = op.whole();
    return make_dynamic_fully_connected(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::GroupFullyConnected& op) const {
    GroupFullyConnectedParams params = unary<GroupFullyConnectedParams>(op);
    params.kernel = op.kernel()->c_str();
    params.group = op.group();
    params.weights = blob(*op.weights());
    params.correction = blob(*op.correction());
    params.multiplier = blob(*op.multiplier());
    params.bias = blob(*op.bias());
    read_range(op, &params);
    params.table = table(op.table());
    return make_group_fully_connected(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Int4FullyConnected& op) const {
    Int4FullyConnectedParams params = unary<Int4FullyConnectedParams>(op);
    read_float_layer(op, &params);
    params.group = op.group();
    params.scales = blob(*op.scales());
    return make_int4_fully_connected(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::WideConv& op) const {
    WideLayerParams params = wide_layer(op);
    params.kernel = op.kernel()->c_str();
    params.sums = blob(*op.sums());
    return make_wide_conv(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::WideDepthwiseConv& op) const {
    return make_wide_depthwise(wide_layer(op), target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::FloatMatMul& op) const {
    return make_float_matmul({tensors_[op.a()], tensors_[op.b()], tensors_[op.output()],
                              op.kernel()->c_str(), op.transposed()},
                             target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::MatMul& op) const {
    MatMulParams params;
    params.a = tensors_[op.a()];
    params.b = tensors_[op.b()];
    params.output = tensors_[op.output()];
    params.kernel = op.kernel()->c_str();
    params.transposed = op.transposed();
    read_range(op, &params);
    params.table = table(op.table());
    return make_matmul(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::FloatUnary& op) const {
    FloatUnaryParams params = unary<FloatUnaryParams>(op);
    params.function = static_cast<FloatFunction>(op.function());
    params.alpha = op.alpha();
    params.beta = op.beta();
    return make_float_unary(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::FloatBinary& op) const {
    return make_float_binary({static_cast<FloatOperator>(op.op()), tensors_[op.a()],
                              tensors_[op.b()], tensors_[op.output()], op.lo(), op.hi()},
                             target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::FloatPool& op) const {
    FloatPoolParams params = unary<FloatPoolParams>(op);
    params.kind = static_cast<PoolKind>(op.kind());
    params.window = window(op);
    params.count_include_pad = op.count_include_pad();
    return make_float_pool(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::FloatReduce& op) const {
    FloatReduceParams params = unary<FloatReduceParams>(op);
    params.reduction = static_cast<FloatReduction>(op.reduction());
    params.begin = op.begin();
    params.end = op.end();
    return make_float_reduce(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::FloatSoftmax& op) const {
    return make_float_softmax(unary<FloatSoftmaxParams>(op), target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::FloatLayerNorm& op) const {
    FloatLayerNormParams params = unary<FloatLayerNormParams>(op);
    params.scale = blob(*op.scale());
    params.bias = blob(*op.bias());
    params.epsilon = op.epsilon();
    return make_float_layer_norm(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::FloatResize& op) const {
    FloatResizeParams params = unary<FloatResizeParams>(op);
    params.rows = blob(*op.rows());
    params.columns = blob(*op.columns());
    params.row_weights = blob(*op.row_weights());
    params.column_weights = blob(*op.column_weights());
    return make_float_resize(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Resize& op) const {
    ResizeParams params = unary<ResizeParams>(op);
    params.rows.assign(op.rows()->begin(), op.rows()->end());
    params.columns.assign(op.columns()->begin(), op.columns()->end());
    if (op.row_weights() != nullptr) {
      params.row_weights.assign(op.row_weights()->begin(), op.row_weights()->end());
    }
    if (op.column_weights() != nullptr) {
      params.column_weights.assign(op.column_weights()->begin(), op.column_weights()->end());
    }
    read_range(op, &params);
    return make_resize(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::ConvTranspose& op) const {
    ConvTransposeParams params = unary<ConvTransposeParams>(op);
    read_weighted(op, &params);
    params.window = transposed_window(op);
    params.table = table(op.table());
    return make_conv_transpose(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::FloatConvTranspose& op) const {
    FloatConvTransposeParams params = unary<FloatConvTransposeParams>(op);
    params.kernel = op.kernel()->c_str();
    params.weights = blob(*op.weights());
    params.bias = blob(*op.bias());
    params.groups = op.groups();
    params.window = transposed_window(op);
    read_range(op, &params);
    return make_float_conv_transpose(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Expand& op) const {
    return make_expand(unary<ExpandParams>(op), target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Gather& op) const {
    GatherParams params = unary<GatherParams>(op);
    params.indices = tensors_[op.indices()];
    params.axis = op.axis();
    return make_gather(params, target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Cast& op) const {
    return make_cast(unary<CastParams>(op), target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Compare& op) const {
    return make_compare({static_cast<Comparison>(op.comparison()), tensors_[op.a()],
                         tensors_[op.b()], tensors_[op.output()]},
                        target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::Where& op) const {
    return make_where(
        {tensors_[op.condition()], tensors_[op.a()], tensors_[op.b()], tensors_[op.output()]},
        target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::IntegerBinary& op) const {
    return make_integer_binary({static_cast<IntegerOperator>(op.op()), tensors_[op.a()],
                                tensors_[op.b()], tensors_[op.output()]},
                               target_, error_);
  }

  std::unique_ptr<Op> bind(const plan::ArgExtreme& op) const {
    ArgExtremeParams params = unary<ArgExtremeParams>(op);
    params.extreme = static_cast<Extreme>(op.extreme());
    params.last = op.last();
    params.axis = op.axis();
    return make_arg_extreme(params, target_, error_);
  }

 private:
  template <typename Params, typename Table>
  Params unary(const Table& op) const {
    Params params;
    params.input = tensors_[op.input()];
    params.output = tensors_[op.output()];
    return params;
  }

  template <typename Table, typename Params>
  void read_weighted(const Table& op, Params* params) const {
    params->kernel = op.kernel()->c_str();
    params->weights = blob(*op.weights());
    params->bias = blob(*op.bias());
    params->multiplier = blob(*op.multiplier());
    read_range(op, params);
  }

  template <typename Table, typename Params>
  void read_float_layer(const Table& op, Params* params) const {
    params->kernel = op.kernel()->c_str();
    params->weights = blob(*op.weights());
    params->epilogue.bias = blob(*op.bias());
    params->epilogue.lo = op.lo();
    params->epilogue.hi = op.hi();
    params->epilogue.adds = op.residual() >= 0;
    if (params->epilogue.adds) {
      params->epilogue.residual = tensors_[static_cast<uint32_t>(op.residual())];
    }
  }

  template <typename Table>
  WideLayerParams wide_layer(const Table& op) const {
    WideLayerParams params = unary<WideLayerParams>(op);
    params.weights = blob(*op.weights());
    params.bias = blob(*op.bias());
    params.multiplier = blob(*op.multiplier());
    params.window = window(op);
    params.input_step = op.input_step();
    params.output_step = op.output_step();
    read_range(op, &params);
    return params;
  }

  template <typename Table, typename Params>
  static void read_range(const Table& op, Params* params) {
    params->lo = op.lo();
    params->hi = op.hi();
  }

  template <typename Table>
  static Window window(const Table& op) {
    return {op.kernel_h(),   op.kernel_w(), op.stride_h(), op.stride_w(),   op.dilation_h(),
            op.dilation_w(), op.pad_top(),  op.pad_left(), op.pad_bottom(), op.pad_right()};
  }

  template <typename Table>
  static Window transposed_window(const Table& op) {
    return {op.kernel_h(),   op.kernel_w(),   op.stride_h(), op.stride_w(),
            op.dilation_h(), op.dilation_w(), op.pad_top(),  op.pad_left()};
  }

  Residual residual(const plan::Residual* sum) const {
    if (sum == nullptr) return {};
    return {true, tensors_[sum->tensor()], sum->scale(), sum->zero_point(), sum->lo(), sum->hi()};
  }

  FusedTable table(const plan::FusedTable* fused) const {
    if (fused == nullptr) return {};
    return {true, fused->scale(), fused->zero_point(), blob(*fused->codes())};
  }

  FusedEpilogue fused(const plan::FusedRequantize* constants) const {
    if (constants == nullptr) return {};
    return {true, blob(*constants->start()), blob(*constants->slope()), blob(*constants->shift())};
  }

  Blob blob(const plan::Blob& range) const {
    return {constants_ + range.offset(), static_cast<size_t>(range.size())};
  }

  const std::vector<TensorView>& tensors_;
  const uint8_t* const constants_;
  const PlanTarget& target_;
  std::string* const error_;
};

/// Returns whether this build has the ops of a kind: all, or those that EDGEKIT_OPS lists, each
/// between commas.
constexpr bool has_op([[maybe_unused]] std::string_view kind) {
#ifdef EDGEKIT_OPS
  constexpr std::string_view kOps = EDGEKIT_OPS;
  for (size_t at = kOps.find(kind); at != kOps.npos; at = kOps.find(kind, at + 1)) {
    if (kOps[at - 1] == ',' && kOps[at + kind.size()] == ',') return true;
  }
  return false;
#else
  return true;
#endif
}

#define EDGEKIT_BIND(kind)                                                   \
  case plan::OpParams_##kind:                                                \
    if constexpr (has_op(#kind)) return binder.bind(*op.params_as_##kind()); \
    break;

std::unique_ptr<Op> dispatch(const plan::Op& op, const Binder& binder) {
  switch (op.params_type()) {
    EDGEKIT_BIND(Conv)
    EDGEKIT_BIND(FullyConnected)
    EDGEKIT_BIND(DepthwiseConv)
    EDGEKIT_BIND(Binary)
    EDGEKIT_BIND(Pool)
    EDGEKIT_BIND(GlobalMean)
    EDGEKIT_BIND(Lookup)
    EDGEKIT_BIND(Softmax)
    EDGEKIT_BIND(Quantize)
    EDGEKIT_BIND(QuantizeParts)
    EDGEKIT_BIND(Dequantize)
    EDGEKIT_BIND(Requantize)
    EDGEKIT_BIND(Concat)
    EDGEKIT_BIND(Reshape)
    EDGEKIT_BIND(Transpose)
    EDGEKIT_BIND(Pad)
    EDGEKIT_BIND(Slice)
    EDGEKIT_BIND(FloatConv)
    EDGEKIT_BIND(FloatDepthwiseConv)
    EDGEKIT_BIND(FloatFullyConnected)
    EDGEKIT_BIND(FloatMatMul)
    EDGEKIT_BIND(FloatUnary)
    EDGEKIT_BIND(FloatBinary)
    EDGEKIT_BIND(FloatPool)
    EDGEKIT_BIND(FloatReduce)
    EDGEKIT_BIND(FloatSoftmax)
    EDGEKIT_BIND(FloatLayerNorm)
    EDGEKIT_BIND(FloatResize)
    EDGEKIT_BIND(Resize)
    EDGEKIT_BIND(ConvTranspose)
    EDGEKIT_BIND(FloatConvTranspose)
    EDGEKIT_BIND(DynamicFullyConnected)
    EDGEKIT_BIND(Expand)
    EDGEKIT_BIND(Gather)
    EDGEKIT_BIND(Cast)
    EDGEKIT_BIND(Compare)
    EDGEKIT_BIND(Where)
    EDGEKIT_BIND(IntegerBinary)
    EDGEKIT_BIND(ArgExtreme)
    EDGEKIT_BIND(MatMul)
    EDGEKIT_BIND(WideConv)
    EDGEKIT_BIND(WideDepthwiseConv)
    EDGEKIT_BIND(GroupFullyConnected)
    EDGEKIT_BIND(Int4FullyConnected)
    case plan::OpParams_NONE:
      break;
  }
  return nullptr;
}

#undef EDGEKIT_BIND

}  // namespace

std::unique_ptr<Op> bind_op(const plan::Op& op, const std::vector<TensorView>& tensors,
                            const uint8_t* constants, const PlanTarget& target,
                            std::string* error) {
  const char* const kind = plan::EnumNameOpParams(op.params_type());
  if (!has_op(kind)) {
    *error = "op '" + op.name()->str() + "' is a " + kind +
             ", which this program leaves out, since the plan that it was built for has none: "
             "build it for this plan, or for all";
    return nullptr;
  }
  std::string reason = "unknown kind";
  std::unique_ptr<Op> bound = dispatch(op, Binder(tensors, constants, target, &reason));
  if (bound == nullptr) {
    *error = "the plan is invalid: op '" + op.name()->str() + "' (" + kind + "): " + reason;
  }
  return bound;
}

}  // namespace edgekit
