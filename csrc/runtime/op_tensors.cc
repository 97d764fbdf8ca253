#include "runtime/op_tensors.h"

namespace edgekit {
namespace {

template <typename Params>
OpTensors unary(const Params* params) {
  return {{params->input()}, params->output()};
}

template <typename Params>
OpTensors with_residual(const Params* params) {
  OpTensors tensors = unary(params);
  if (params->residual() != nullptr) tensors.reads.push_back(params->residual()->tensor());
  return tensors;
}

template <typename Params>
OpTensors with_float_residual(const Params* params) {
  OpTensors tensors = unary(params);
  if (params->residual() >= 0) {
    tensors.reads.push_back(static_cast<uint32_t>(params->residual()));
  }
  return tensors;
}

template <typename Params>
OpTensors binary(const Params* params) {
  return {{params->a(), params->b()}, params->output()};
}

}  // namespace

OpTensors op_tensors(const plan::Op& op) {
  switch (op.params_type()) {
    case plan::OpParams_Conv:
      return with_residual(op.params_as_Conv());
    case plan::OpParams_FullyConnected:
      return unary(op.params_as_FullyConnected());
    case plan::OpParams_DepthwiseConv:
      return with_residual(op.params_as_DepthwiseConv());
    case plan::OpParams_Binary:
      return binary(op.params_as_Binary());
    case plan::OpParams_Pool:
      return unary(op.params_as_Pool());
    case plan::OpParams_GlobalMean:
      return unary(op.params_as_GlobalMean());
    case plan::OpParams_Lookup:
      return unary(op.params_as_Lookup());
    case plan::OpParams_Softmax:
      return unary(op.params_as_Softmax());
    case plan::OpParams_Quantize:
      return unary(op.params_as_Quantize());
    case plan::OpParams_QuantizeParts:
      return unary(op.params_as_QuantizeParts());
    case plan::OpParams_Dequantize:
      return unary(op.params_as_Dequantize());
    case plan::OpParams_Requantize:
      return unary(op.params_as_Requantize());
    case plan::OpParams_Concat: {
      const plan::Concat* concat = op.params_as_Concat();
      return {{concat->inputs()->begin(), concat->inputs()->end()}, concat->output()};
    }
    case plan::OpParams_Reshape:
      return unary(op.params_as_Reshape());
    case plan::OpParams_Transpose:
      return unary(op.params_as_Transpose());
    case plan::OpParams_Pad:
      return unary(op.params_as_Pad());
    case plan::OpParams_Slice:
      return unary(op.params_as_Slice());
    case plan::OpParams_FloatConv:
      return with_float_residual(op.params_as_FloatConv());
    case plan::OpParams_FloatDepthwiseConv:
      return with_float_residual(op.params_as_FloatDepthwiseConv());
    case plan::OpParams_FloatFullyConnected:
      return with_float_residual(op.params_as_FloatFullyConnected());
    case plan::OpParams_FloatMatMul:
      return binary(op.params_as_FloatMatMul());
    case plan::OpParams_FloatUnary:
      return unary(op.params_as_FloatUnary());
    case plan::OpParams_FloatBinary:
      return binary(op.params_as_FloatBinary());
    case plan::OpParams_FloatPool:
      return unary(op.params_as_FloatPool());
    case plan::OpParams_FloatReduce:
      return unary(op.params_as_FloatReduce());
    case plan::OpParams_FloatSoftmax:
      return unary(op.params_as_FloatSoftmax());
    case plan::OpParams_FloatLayerNorm:
      return unary(op.params_as_FloatLayerNorm());
    case plan::OpParams_FloatResize:
      return unary(op.params_as_FloatResize());
    case plan::OpParams_Resize:
      return unary(op.params_as_Resize());
    case plan::OpParams_ConvTranspose:
      return unary(op.params_as_ConvTranspose());
    case plan::OpParams_FloatConvTranspose:
      return unary(op.params_as_FloatConvTranspose());
    case plan::OpParams_DynamicFullyConnected:
      return unary(op.params_as_DynamicFullyConnected());
    case plan::OpParams_Expand:
      return unary(op.params_as_Expand());
    case plan::OpParams_Gather: {
      const plan::Gather* gather = op.params_as_Gather();
      return {{gather->input(), gather->indices()}, gather->output()};
    }
    case plan::OpParams_Cast:
      return unary(op.params_as_Cast());
    case plan::OpParams_Compare:
      return binary(op.params_as_Compare());
    case plan::OpParams_Where: {
      const plan::Where* where = op.params_as_Where();
      return {{where->condition(), where->a(), where->b()}, where->output()};
    }
    case plan::OpParams_IntegerBinary:
      return binary(op.params_as_IntegerBinary());
    case plan::OpParams_ArgExtreme:
      return unary(op.params_as_ArgExtreme());
    case plan::OpParams_MatMul:
      return binary(op.params_as_MatMul());
    case plan::OpParams_GroupFullyConnected:
      return unary(op.params_as_GroupFullyConnected());
    case plan::OpParams_Int4FullyConnected:
      return with_float_residual(op.params_as_Int4FullyConnected());
    case plan::OpParams_WideConv:
      return unary(op.params_as_WideConv());
    case plan::OpParams_WideDepthwiseConv:
      return unary(op.params_as_WideDepthwiseConv());
    case plan::OpParams_NONE:
      break;
  }
  return {};
}

const char* op_kernel(const plan::Op& op) {
  switch (op.params_type()) {
    case plan::OpParams_Conv:
      return op.params_as_Conv()->kernel()->c_str();
    case plan::OpParams_FullyConnected:
      return op.params_as_FullyConnected()->kernel()->c_str();
    case plan::OpParams_DepthwiseConv:
      return op.params_as_DepthwiseConv()->kernel()->c_str();
    case plan::OpParams_FloatConv:
      return op.params_as_FloatConv()->kernel()->c_str();
    case plan::OpParams_FloatDepthwiseConv:
      return op.params_as_FloatDepthwiseConv()->kernel()->c_str();
    case plan::OpParams_FloatFullyConnected:
      return op.params_as_FloatFullyConnected()->kernel()->c_str();
    case plan::OpParams_FloatMatMul:
      return op.params_as_FloatMatMul()->kernel()->c_str();
    case plan::OpParams_ConvTranspose:
      return op.params_as_ConvTranspose()->kernel()->c_str();
    case plan::OpParams_FloatConvTranspose:
      return op.params_as_FloatConvTranspose()->kernel()->c_str();
    case plan::OpParams_DynamicFullyConnected:
      return op.params_as_DynamicFullyConnected()->kernel()->c_str();
    case plan::OpParams_MatMul:
      return op.params_as_MatMul()->kernel()->c_str();
    case plan::OpParams_GroupFullyConnected:
      return op.params_as_GroupFullyConnected()->kernel()->c_str();
    case plan::OpParams_Int4FullyConnected:
      return op.params_as_Int4FullyConnected()->kernel()->c_str();
    case plan::OpParams_WideConv:
      return op.params_as_WideConv()->kernel()->c_str();
    default:
      return "";
  }
}

}  // namespace edgekit
