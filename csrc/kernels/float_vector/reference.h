#pragma once

#include <cmath>
#include <vector>

#include "kernels/float_vector/float_vector.h"

namespace edgekit {

// The oracles of the float32 vector operators: functions in float64 by the C++ library, which
// kernels approximate within FloatFunction's bounds, and sums in the order that FloatReduceArgs
// gives, which kernels equal. They share no code with the kernels.

/// Returns the function's value, rounded to float64 only.
inline double reference_function(FloatFunction function, double x, double a, double b) {
  const auto clip = [](double v, double lo, double hi) { return v < lo ? lo : v > hi ? hi : v; };
  switch (function) {
    case FloatFunction::kAbs:
      return std::fabs(x);
    case FloatFunction::kNegate:
      return -x;
    case FloatFunction::kSqrt:
      return std::sqrt(x);
    case FloatFunction::kReciprocal:
      return 1 / x;
    case FloatFunction::kFloor:
      return std::floor(x);
    case FloatFunction::kCeil:
      return std::ceil(x);
    case FloatFunction::kRound:
      return std::nearbyint(x);
    case FloatFunction::kClip:
      return clip(x, a, b);
    case FloatFunction::kLeakyRelu:
      return x < 0 ? a * x : x;
    case FloatFunction::kHardSigmoid:
      return clip(a * x + b, 0, 1);
    case FloatFunction::kHardSwish:
      return x * clip(x / 6 + 0.5, 0, 1);
    case FloatFunction::kExp:
      return std::exp(x);
    case FloatFunction::kLog:
      return std::log(x);
    case FloatFunction::kErf:
      return std::erf(x);
    case FloatFunction::kTanh:
      return std::tanh(x);
    case FloatFunction::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case FloatFunction::kGelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case FloatFunction::kGeluTanh:
      return x / (1 + std::exp(-2 * std::sqrt(2 / 3.14159265358979323846) *
                               (x + 0.044715 * x * x * x)));
  }
  return std::nan("");
}

inline float reference_operator(FloatOperator op, float a, float b) {
  switch (op) {
    case FloatOperator::kAdd:
      return a + b;
    case FloatOperator::kSub:
      return a - b;
    case FloatOperator::kMul:
      return a * b;
    case FloatOperator::kDiv:
      return a / b;
    case FloatOperator::kMax:
      return a > b ? a : b;
    case FloatOperator::kMin:
      return a < b ? a : b;
  }
  return 0;
}

/// Returns the sum of `values` in 16 lanes, as FloatReduceArgs says.
inline float reference_sum(const std::vector<float>& values) {
  std::vector<float> lanes(16, 0.0F);
  for (size_t i = 0; i < values.size(); ++i) lanes[i % 16] += values[i];
  while (lanes.size() > 1) {
    const size_t half = lanes.size() / 2;
    for (size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    lanes.resize(half);
  }
  return lanes[0];
}

}  // namespace edgekit
