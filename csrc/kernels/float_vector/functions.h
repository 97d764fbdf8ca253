#pragma once

#include <cstdint>
#include <cstring>

// Functions of one float, in forms that compilers turn into vector code: no branches, no library
// calls but those of one instruction. They have internal linkage, so that a copy compiled for a
// strong instruction set can't replace the baseline's.
//
// The polynomials are minimax approximations of the stated function on the stated interval, in the
// stated weight, found by iteratively reweighted least squares in float64 and rounded to float32.
// tests/native/float_vector_test.cc holds each function to its bound.

namespace edgekit {
namespace {

inline float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

inline int32_t bits_of(float v) {
  int32_t bits = 0;
  std::memcpy(&bits, &v, sizeof bits);
  return bits;
}

inline float from_bits(int32_t bits) {
  float v = 0;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}

inline float magnitude(float v) { return from_bits(bits_of(v) & 0x7FFFFFFF); }

/// Returns `v`, which is not negative, with the sign of `x`.
inline float with_sign(float v, float x) {
  return from_bits(bits_of(v) | (bits_of(x) & INT32_MIN));
}

/// Returns 2^n for n in [-126, 127].
inline float power_of_two(int32_t n) {
  return from_bits(static_cast<int32_t>(static_cast<uint32_t>(n + 127) << 23u));
}

/// lo where v < lo, hi where v > hi; a NaN stays.
inline float clip(float v, float lo, float hi) {
  v = v < lo ? lo : v;
  return v > hi ? hi : v;
}

/// e^x = 2^n * e^r with n = rne(x / ln 2): 1 + r + r^2 P(r) on |r| <= ln 2 / 2, relative weight.
inline float exponential(float x) {
  // Beyond, the result is 0 or infinity all the same.
  x = clip(x, -104.0F, 89.0F);
  // In [2^23, 2^24) floats are the whole numbers: the sum rounds to one, and its bits count.
  constexpr float kRound = 12582912.0F;
  const float shifted = fused(x, 0x1.715476p+0F, kRound);
  const float n = shifted - kRound;
  float r = fused(n, -0x1.62e400p-1F, x);
  r = fused(n, -0x1.7f7d1cp-20F, r);
  float p = 0x1.9f0862p-13F;
  p = fused(p, r, 0x1.6d8d54p-10F);
  p = fused(p, r, 0x1.111272p-7F);
  p = fused(p, r, 0x1.55548ep-5F);
  p = fused(p, r, 0x1.555554p-3F);
  p = fused(p, r, 0.5F);
  p = fused(p * r, r, r) + 1.0F;
  // Two factors, since 2^n may be no float where the result is one.
  const int32_t exponent = static_cast<int32_t>(static_cast<uint32_t>(bits_of(shifted)) -
                                                static_cast<uint32_t>(bits_of(kRound)));
  const int32_t half = exponent >> 1;
  const float low = power_of_two(half);
  const float high = power_of_two(exponent - half);
  return p * low * high;
}

/// log x = e ln 2 + log(1 + f) with 1 + f in [sqrt 1/2, sqrt 2): f - f^2 / 2 + f^3 P(f), weight
/// f^2.
inline float logarithm(float x) {
  const bool tiny = x < 0x1p-126F;
  const float scaled = tiny ? x * 0x1p23F : x;
  // Without a sign, so that no float overflows; those that are not positive are replaced below.
  const uint32_t bits = static_cast<uint32_t>(bits_of(scaled));
  const int32_t exponent = static_cast<int32_t>(bits - 0x3F3504F3u) >> 23;
  const float f =
      from_bits(static_cast<int32_t>(bits - (static_cast<uint32_t>(exponent) << 23u))) - 1.0F;
  const float e = static_cast<float>(exponent - (tiny ? 23 : 0));
  float p = 0x1.1b56dcp-4F;
  p = fused(p, f, -0x1.e30f10p-4F);
  p = fused(p, f, 0x1.e65ba2p-4F);
  p = fused(p, f, -0x1.fb3dfap-4F);
  p = fused(p, f, 0x1.2331bap-3F);
  p = fused(p, f, -0x1.5562fep-3F);
  p = fused(p, f, 0x1.99a552p-3F);
  p = fused(p, f, -0x1.ffffeep-3F);
  p = fused(p, f, 0x1.555546p-2F);
  const float square = f * f;
  float small = fused(p * f, square, e * 0x1.7f7d1cp-20F);
  small = fused(square, -0.5F, small);
  const float result = fused(e, 0x1.62e400p-1F, f + small);
  constexpr float kInfinity = __builtin_inff();
  const float special = x == 0.0F ? -kInfinity : x == kInfinity ? kInfinity : __builtin_nanf("");
  return x > 0.0F && x < kInfinity ? result : special;
}

/// tanh x = x + x^3 P(x^2) for |x| < 5/8, weight x^2; else 1 - 2 / (e^2|x| + 1).
inline float hyperbolic_tangent(float x) {
  const float t = magnitude(x);
  const float u = x * x;
  float p = 0x1.197b62p-9F;
  p = fused(p, u, -0x1.0c213ep-7F);
  p = fused(p, u, 0x1.6394d8p-6F);
  p = fused(p, u, -0x1.b9ef7cp-5F);
  p = fused(p, u, 0x1.11106cp-3F);
  p = fused(p, u, -0x1.555554p-2F);
  const float small = fused(p * u, t, t);
  const float large = 1.0F - 2.0F / (exponential(t + t) + 1.0F);
  // Of a NaN, both are NaN.
  return with_sign(t < 0.625F ? small : large, x);
}

/// 1 / (1 + e^-x), from e^-|x|, which can't overflow.
inline float logistic(float x) {
  const float e = exponential(-magnitude(x));
  return (x < 0.0F ? e : 1.0F) / (1.0F + e);
}

/// erf x = x + x P(x^2) for |x| < 0.9375, relative weight; else 1 - e^Q(|x|), where Q is the
/// logarithm of erfc on [0.92, 3.95], weight erfc / erf.
inline float error_function(float x) {
  const float t = magnitude(x);
  const float u = x * x;
  float p = 0x1.589470p-14F;
  p = fused(p, u, -0x1.a8fc6cp-11F);
  p = fused(p, u, 0x1.54a490p-8F);
  p = fused(p, u, -0x1.b80b0ep-6F);
  p = fused(p, u, 0x1.ce2de2p-4F);
  p = fused(p, u, -0x1.812742p-2F);
  // 2 / sqrt(pi) - 1
  p = fused(p, u, 0x1.06ebaep-3F);
  const float small = fused(p, t, t);
  // From there on erf is 1.
  const float v = clip(t, 0.0F, 3.95F);
  float q = -0x1.61ea8ep-16F;
  q = fused(q, v, 0x1.c7912cp-12F);
  q = fused(q, v, -0x1.115ad4p-8F);
  q = fused(q, v, 0x1.9b8e84p-6F);
  q = fused(q, v, -0x1.bb83e8p-4F);
  q = fused(q, v, -0x1.44460cp-1F);
  q = fused(q, v, -0x1.2127e4p+0F);
  q = fused(q, v, 0x1.6e5700p-13F);
  const float large = 1.0F - exponential(q);
  return with_sign(t < 0.9375F ? small : large, x);
}

inline float gelu(float x) { return 0.5F * x * (1.0F + error_function(x * 0x1.6a09e6p-1F)); }

inline float gelu_tanh(float x) {
  const float inner = x * x * x * 0.044715F + x;
  return 0.5F * x * (1.0F + hyperbolic_tangent(inner * 0x1.988454p-1F));
}

}  // namespace
}  // namespace edgekit
