#pragma once

#include <cmath>
#include <cstring>

#include "kernels/float_vector/float_vector.h"
#include "kernels/float_vector/functions.h"
#include "kernels/storage.h"

// The operators of float_vector.h as loops that compilers turn into vector code. Internal linkage
// throughout: each instruction set compiles its own copy.

namespace edgekit {
namespace {

constexpr size_t kSumLanes = 16;
/// Elements that stay in registers or the first-level cache while taps pass by.
constexpr size_t kWindowBlock = 64;

template <class Function>
inline void map(const FloatUnaryArgs& args, Function function) {
  const float* x = args.x;
  float* y = args.y;
  EDGEKIT_INDEPENDENT
  for (size_t i = 0; i < args.size; ++i) y[i] = function(x[i]);
}

void run_unary(const FloatUnaryArgs& args) {
  const float a = args.alpha;
  const float b = args.beta;
  switch (args.function) {
    case FloatFunction::kAbs:
      return map(args, [](float x) { return magnitude(x); });
    case FloatFunction::kNegate:
      return map(args, [](float x) { return -x; });
    case FloatFunction::kSqrt:
      return map(args, [](float x) { return __builtin_sqrtf(x); });
    case FloatFunction::kReciprocal:
      return map(args, [](float x) { return 1.0F / x; });
    case FloatFunction::kFloor:
      return map(args, [](float x) { return __builtin_floorf(x); });
    case FloatFunction::kCeil:
      return map(args, [](float x) { return __builtin_ceilf(x); });
    case FloatFunction::kRound:
      return map(args, [](float x) { return __builtin_nearbyintf(x); });
    case FloatFunction::kClip:
      return map(args, [a, b](float x) { return clip(x, a, b); });
    case FloatFunction::kLeakyRelu:
      return map(args, [a](float x) { return x < 0.0F ? a * x : x; });
    case FloatFunction::kHardSigmoid:
      return map(args, [a, b](float x) { return clip(a * x + b, 0.0F, 1.0F); });
    case FloatFunction::kHardSwish:
      return map(args, [](float x) { return x * clip(x * (1.0F / 6.0F) + 0.5F, 0.0F, 1.0F); });
    case FloatFunction::kExp:
      return map(args, [](float x) { return exponential(x); });
    case FloatFunction::kLog:
      return map(args, [](float x) { return logarithm(x); });
    case FloatFunction::kErf:
      return map(args, [](float x) { return error_function(x); });
    case FloatFunction::kTanh:
      return map(args, [](float x) { return hyperbolic_tangent(x); });
    case FloatFunction::kSigmoid:
      return map(args, [](float x) { return logistic(x); });
    case FloatFunction::kGelu:
      return map(args, [](float x) { return gelu(x); });
    case FloatFunction::kGeluTanh:
      return map(args, [](float x) { return gelu_tanh(x); });
  }
}

template <class Function>
inline void combine(const FloatBinaryArgs& args, Function function) {
  const float* a = args.a;
  const float* b = args.b;
  float* y = args.y;
  const float lo = args.lo;
  const float hi = args.hi;
  if (args.a_step != 0 && args.b_step != 0) {
    EDGEKIT_INDEPENDENT
    for (size_t i = 0; i < args.size; ++i) y[i] = clip(function(a[i], b[i]), lo, hi);
  } else if (args.a_step != 0) {
    const float second = *b;
    EDGEKIT_INDEPENDENT
    for (size_t i = 0; i < args.size; ++i) y[i] = clip(function(a[i], second), lo, hi);
  } else if (args.b_step != 0) {
    const float first = *a;
    EDGEKIT_INDEPENDENT
    for (size_t i = 0; i < args.size; ++i) y[i] = clip(function(first, b[i]), lo, hi);
  } else {
    const float value = clip(function(*a, *b), lo, hi);
    for (size_t i = 0; i < args.size; ++i) y[i] = value;
  }
}

void run_binary(const FloatBinaryArgs& args) {
  switch (args.op) {
    case FloatOperator::kAdd:
      return combine(args, [](float a, float b) { return a + b; });
    case FloatOperator::kSub:
      return combine(args, [](float a, float b) { return a - b; });
    case FloatOperator::kMul:
      return combine(args, [](float a, float b) { return a * b; });
    case FloatOperator::kDiv:
      return combine(args, [](float a, float b) { return a / b; });
    case FloatOperator::kMax:
      return combine(args, [](float a, float b) { return a > b ? a : b; });
    case FloatOperator::kMin:
      return combine(args, [](float a, float b) { return a < b ? a : b; });
  }
}

template <class Function>
inline void fold_taps(const FloatWindowArgs& args, Function function) {
  const bool mean = args.reduction == FloatReduction::kMean;
  for (size_t first = 0; first < args.width; first += kWindowBlock) {
    const size_t left = args.width - first;
    const size_t count = left < kWindowBlock ? left : kWindowBlock;
    float block[kWindowBlock];
    const float* x = args.x[0] + first;
    for (size_t j = 0; j < count; ++j) block[j] = x[j];
    for (size_t t = 1; t < args.taps; ++t) {
      x = args.x[t] + first;
      for (size_t j = 0; j < count; ++j) block[j] = function(block[j], x[j]);
    }
    float* y = args.y + first;
    if (mean) {
      for (size_t j = 0; j < count; ++j) y[j] = block[j] / args.divisor;
    } else {
      for (size_t j = 0; j < count; ++j) y[j] = block[j];
    }
  }
}

void run_window(const FloatWindowArgs& args) {
  switch (args.reduction) {
    case FloatReduction::kSum:
    case FloatReduction::kMean:
      return fold_taps(args, [](float a, float b) { return a + b; });
    case FloatReduction::kMax:
      return fold_taps(args, [](float a, float b) { return b > a ? b : a; });
    case FloatReduction::kMin:
      return fold_taps(args, [](float a, float b) { return b < a ? b : a; });
  }
}

/// Returns ((l0 + l8) + (l4 + l12)) + ..., halving: lanes 8 apart first, then 4, 2 and 1.
inline float sum_lanes(float* lanes) {
  for (size_t half = kSumLanes / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lanes[i] = lanes[i] + lanes[i + half];
  }
  return lanes[0];
}

/// Returns the sum of function(i) over i in [0, n).
template <class Function>
inline float sum(size_t n, Function function) {
  float lanes[kSumLanes] = {};
  size_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
    for (size_t j = 0; j < kSumLanes; ++j) lanes[j] = lanes[j] + function(i + j);
  }
  for (size_t j = 0; i + j < n; ++j) lanes[j] = lanes[j] + function(i + j);
  return sum_lanes(lanes);
}

/// Returns the largest of x, or with `sign` -1 the smallest; the order does not matter, except
/// that a zero of either sign may win.
inline float extreme(const float* x, size_t n, float sign) {
  float lanes[kSumLanes];
  for (float& lane : lanes) lane = x[0] * sign;
  size_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
    for (size_t j = 0; j < kSumLanes; ++j) {
      const float v = x[i + j] * sign;
      lanes[j] = v > lanes[j] ? v : lanes[j];
    }
  }
  for (; i < n; ++i) {
    const float v = x[i] * sign;
    lanes[0] = v > lanes[0] ? v : lanes[0];
  }
  for (size_t j = 1; j < kSumLanes; ++j) lanes[0] = lanes[j] > lanes[0] ? lanes[j] : lanes[0];
  return lanes[0] * sign;
}

void run_reduce(const FloatReduceArgs& args) {
  for (size_t r = 0; r < args.rows; ++r) {
    const float* x = args.x + r * args.n;
    switch (args.reduction) {
      case FloatReduction::kSum:
        args.y[r] = sum(args.n, [x](size_t i) { return x[i]; });
        break;
      case FloatReduction::kMean:
        args.y[r] = sum(args.n, [x](size_t i) { return x[i]; }) / args.divisor;
        break;
      case FloatReduction::kMax:
        args.y[r] = extreme(x, args.n, 1.0F);
        break;
      case FloatReduction::kMin:
        args.y[r] = extreme(x, args.n, -1.0F);
        break;
    }
  }
}

inline void run_softmax(const FloatSoftmaxArgs& args) {
  for (size_t r = 0; r < args.rows; ++r) {
    const float* x = args.x + r * args.n;
    float* y = args.y + r * args.n;
    const float largest = extreme(x, args.n, 1.0F);
    EDGEKIT_INDEPENDENT
    for (size_t i = 0; i < args.n; ++i) y[i] = exponential(x[i] - largest);
    const float total = sum(args.n, [y](size_t i) { return y[i]; });
    EDGEKIT_INDEPENDENT
    for (size_t i = 0; i < args.n; ++i) y[i] = y[i] / total;
  }
}

inline void run_norm(const FloatNormArgs& args) {
  const float n = static_cast<float>(args.n);
  for (size_t r = 0; r < args.rows; ++r) {
    const float* x = args.x + r * args.n;
    float* y = args.y + r * args.n;
    const float mean = sum(args.n, [x](size_t i) { return x[i]; }) / n;
    const float squares = sum(args.n, [x, mean](size_t i) {
      const float d = x[i] - mean;
      return d * d;
    });
    const float scale = 1.0F / __builtin_sqrtf(squares / n + args.epsilon);
    EDGEKIT_INDEPENDENT
    for (size_t i = 0; i < args.n; ++i) {
      y[i] = (x[i] - mean) * scale * args.scale[i] + args.bias[i];
    }
  }
}

/// Without the sign, patterns of floats order as their magnitudes do, and those of NaN come last.
inline void run_magnitude(const FloatMagnitudeArgs& args) {
  constexpr uint32_t kNoSign = 0x7fffffff;
  for (size_t r = 0; r < args.rows; ++r) {
    const float* x = args.x + r * args.n;
    uint32_t largest = 0;
    for (size_t i = 0; i < args.n; ++i) {
      uint32_t pattern;
      std::memcpy(&pattern, x + i, sizeof(pattern));
      pattern &= kNoSign;
      largest = pattern > largest ? pattern : largest;
    }
    std::memcpy(args.y + r, &largest, sizeof(largest));
  }
}

}  // namespace
}  // namespace edgekit
