#pragma once

#include <cstddef>
#include <cstdint>

#include "isa/isa.h"

namespace edgekit {

// Float32 operators over vectors: elementwise functions, windows, reductions and norms. functions.h
// and loops.h are their text, in which every step is one IEEE operation in a written order; each
// instruction set compiles it, so that all give the same bytes but for the sign and payload of a
// NaN. Nothing is read or written outside of what an equation names, and nothing needs an alignment
// beyond that of floats.

/// The functions of one element. a and b are FloatUnaryArgs' alpha and beta; an error is that of
/// the worst float, in units of the last place.
enum class FloatFunction : uint8_t {
  kAbs,
  kNegate,
  kSqrt,
  kReciprocal,
  kFloor,
  kCeil,
  /// To whole numbers, ties to even.
  kRound,
  /// x < a ? a : x > b ? b : x.
  kClip,
  /// x < 0 ? a * x : x.
  kLeakyRelu,
  /// clip(a * x + b, 0, 1).
  kHardSigmoid,
  /// x * clip(x * (1 / 6) + 1 / 2, 0, 1).
  kHardSwish,
  /// Error below 1.
  kExp,
  /// Error below 1.
  kLog,
  /// Error below 2.
  kErf,
  /// Error below 2.
  kTanh,
  /// 1 / (1 + exp(-x)): error below 2.5.
  kSigmoid,
  /// 0.5 * x * (1 + erf(x / sqrt(2))): error below 2^-22 * |x|.
  kGelu,
  /// 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))): error below 2^-22 * |x|.
  kGeluTanh,
};

constexpr FloatFunction kLastFloatFunction = FloatFunction::kGeluTanh;

/// y[i] = function(x[i]); y may be x.
struct FloatUnaryArgs {
  FloatFunction function;
  float alpha;
  float beta;
  size_t size;
  const float* x;
  float* y;
};

enum class FloatOperator : uint8_t { kAdd, kSub, kMul, kDiv, kMax, kMin };

constexpr FloatOperator kLastFloatOperator = FloatOperator::kMin;

/// y[i] = clip(a[i * a_step] op b[i * b_step], lo, hi); steps are 0 or 1, y may be an operand whose
/// step is 1. The larger of a and b is `a > b ? a : b`, the smaller `a < b ? a : b`.
struct FloatBinaryArgs {
  FloatOperator op;
  float lo;
  float hi;
  size_t size;
  const float* a;
  size_t a_step;
  const float* b;
  size_t b_step;
  float* y;
};

enum class FloatReduction : uint8_t { kSum, kMean, kMax, kMin };

constexpr FloatReduction kLastFloatReduction = FloatReduction::kMin;

/// y[j] = reduce(x[t][j]) over the taps t, in their order; a mean is the sum divided by `divisor`.
/// Of a window or of rows: x points to each one's first element. `width` elements of each.
struct FloatWindowArgs {
  FloatReduction reduction;
  float divisor;
  size_t taps;
  const float* const* x;
  size_t width;
  float* y;
};

/// y[r] = reduce(x[r * n + i]) over i. Element i of a sum goes to lane i % 16, in order, starting
/// from 0; lanes are added as sum_lanes() says.
struct FloatReduceArgs {
  FloatReduction reduction;
  float divisor;
  size_t rows;
  size_t n;
  const float* x;
  float* y;
};

/// y = e / sum(e) with e = exp(x - max(x)), for each of `rows` rows of n; sums as FloatReduceArgs.
/// y may be x.
struct FloatSoftmaxArgs {
  size_t rows;
  size_t n;
  const float* x;
  float* y;
};

/// y = (d * r) * scale[i] + bias[i] with d = x - sum(x) / n and r = 1 / sqrt(sum(d * d) / n +
/// epsilon), for each of `rows` rows of n; sums as FloatReduceArgs. y may be x.
struct FloatNormArgs {
  size_t rows;
  size_t n;
  float epsilon;
  const float* x;
  const float* scale;
  const float* bias;
  float* y;
};

/// y[r] = the largest magnitude of x[r * n + i] over i; NaN where one of them is NaN.
struct FloatMagnitudeArgs {
  size_t rows;
  size_t n;
  const float* x;
  float* y;
};

/// A row of kernels.inc: all of these operators for one instruction set.
struct FloatVectorKernels {
  const char* name;
  Isa isa;
  bool built;
  void (*unary)(const FloatUnaryArgs& args);
  void (*binary)(const FloatBinaryArgs& args);
  void (*window)(const FloatWindowArgs& args);
  void (*reduce)(const FloatReduceArgs& args);
  void (*softmax)(const FloatSoftmaxArgs& args);
  void (*norm)(const FloatNormArgs& args);
  void (*magnitude)(const FloatMagnitudeArgs& args);
};

/// Returns every row, built or not.
const FloatVectorKernels* float_vector_kernels(size_t* count);

/// Returns the kernels for plans of `isa`: a pure function, the same on every machine.
const FloatVectorKernels& select_float_vector(Isa isa);

}  // namespace edgekit
