#include "kernels/float_vector/float_vector.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "guarded_buffer.h"
#include "kernels/float_vector/reference.h"
#include "random.h"
#include "random_floats.h"
#include "test.h"

namespace edgekit {
namespace {

using test::GuardedBuffer;
using test::Random;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float from_bits(uint32_t bits) {
  float v = 0;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}

template <class Body>
void for_each_kernel(const Body& body) {
  size_t count = 0;
  const FloatVectorKernels* kernels = float_vector_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    if (!test::can_run(kernels[i].name, kernels[i].isa, kernels[i].built)) continue;
    test::set_case(kernels[i].name);
    body(kernels[i]);
    test::count_case(kernels[i].isa);
  }
}

/// Every float of a stride that visits all exponents, and the special ones.
std::vector<float> all_kinds_of_floats() {
  std::vector<float> values = {0.0F,       -0.0F,     1.0F,        -1.0F,     kInfinity,
                               -kInfinity, 0.625F,    0.9375F,     3.95F,     88.7228F,
                               88.73F,     -87.33F,   -103.97F,    -104.0F,   1e-45F,
                               -1e-45F,    0x1p-126F, 0.70710677F, 1.4142135F};
  constexpr uint32_t kStride = 60013;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += kStride) {
    const float v = from_bits(static_cast<uint32_t>(bits));
    if (v == v) values.push_back(v);
  }
  return values;
}

/// Returns how far y lies from the exact value, in units of the last place of a float there.
double error_in_ulps(float y, double exact) {
  const double bounded = std::fabs(exact) > std::numeric_limits<float>::max()
                             ? std::numeric_limits<double>::infinity()
                             : exact;
  if (static_cast<double>(y) == bounded || static_cast<float>(exact) == y) return 0;
  int exponent = 0;
  std::frexp(exact, &exponent);
  const double ulp = std::ldexp(1.0, std::max(exponent - 24, -149));
  return std::fabs(static_cast<double>(y) - exact) / ulp;
}

std::vector<float> run(const FloatVectorKernels& kernels, FloatFunction function,
                       const std::vector<float>& x, float alpha = 0, float beta = 0) {
  std::vector<float> y(x.size());
  kernels.unary({function, alpha, beta, x.size(), x.data(), y.data()});
  return y;
}

bool same_bytes(const std::vector<float>& a, const std::vector<float>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    const bool nan = a[i] != a[i] && b[i] != b[i];
    if (!nan && std::memcmp(&a[i], &b[i], sizeof(float)) != 0) return false;
  }
  return a.size() == b.size();
}

struct Bound {
  FloatFunction function;
  double ulps;
};

}  // namespace

EDGEKIT_TEST(functions_keep_their_bounds) {
  const std::vector<float> x = all_kinds_of_floats();
  const Bound bounds[] = {{FloatFunction::kAbs, 0},      {FloatFunction::kNegate, 0},
                          {FloatFunction::kSqrt, 0.501}, {FloatFunction::kReciprocal, 0.501},
                          {FloatFunction::kFloor, 0},    {FloatFunction::kCeil, 0},
                          {FloatFunction::kRound, 0},    {FloatFunction::kExp, 1},
                          {FloatFunction::kLog, 1},      {FloatFunction::kErf, 2},
                          {FloatFunction::kTanh, 2},     {FloatFunction::kSigmoid, 2.5}};
  const FloatVectorKernels& generic = select_float_vector(Isa::kGeneric);
  for (const Bound& bound : bounds) {
    const std::vector<float> y = run(generic, bound.function, x);
    double worst = 0;
    float at = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = reference_function(bound.function, x[i], 0, 0);
      if (exact != exact) {
        EDGEKIT_CHECK(y[i] != y[i], "a NaN is missing");
        continue;
      }
      const double error = error_in_ulps(y[i], exact);
      if (!(error <= worst)) {
        worst = error;
        at = x[i];
      }
    }
    EDGEKIT_CHECK(worst <= bound.ulps,
                  "function " + std::to_string(static_cast<int>(bound.function)) + ": " +
                      std::to_string(worst) + " ulps at " + std::to_string(at));
  }
}

EDGEKIT_TEST(functions_that_cancel_keep_their_bounds) {
  const std::vector<float> x = all_kinds_of_floats();
  const FloatVectorKernels& generic = select_float_vector(Isa::kGeneric);
  for (const FloatFunction function : {FloatFunction::kGelu, FloatFunction::kGeluTanh}) {
    const std::vector<float> y = run(generic, function, x);
    for (size_t i = 0; i < x.size(); ++i) {
      // The square of a very large number is infinite in float64 as well.
      if (std::fabs(x[i]) > 1e12F) continue;
      const double exact = reference_function(function, x[i], 0, 0);
      const double bound = std::max(std::fabs(x[i]) * 0x1p-22, 0x1p-149);
      EDGEKIT_CHECK(std::fabs(static_cast<double>(y[i]) - exact) <= bound,
                    std::to_string(static_cast<int>(function)) + " at " + std::to_string(x[i]) +
                        ": " + std::to_string(y[i]));
    }
  }
}

EDGEKIT_TEST(simple_functions_are_what_they_say) {
  const FloatVectorKernels& generic = select_float_vector(Isa::kGeneric);
  const std::vector<float> x = {-8, -3, -0.5, -0.0F, 0.25, 2, 3, 8};
  const auto check = [&](FloatFunction function, float a, float b) {
    const std::vector<float> y = run(generic, function, x, a, b);
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = reference_function(function, x[i], a, b);
      EDGEKIT_CHECK(std::fabs(y[i] - exact) <= std::fabs(exact) * 0x1p-22 + 1e-30,
                    std::to_string(static_cast<int>(function)) + " at " + std::to_string(x[i]));
    }
  };
  check(FloatFunction::kClip, -1, 2.5);
  check(FloatFunction::kLeakyRelu, 0.125, 0);
  check(FloatFunction::kHardSigmoid, 0.25, 0.5);
  check(FloatFunction::kHardSwish, 0, 0);
}

EDGEKIT_TEST(instruction_sets_agree_on_functions) {
  std::vector<float> x = all_kinds_of_floats();
  x.push_back(std::numeric_limits<float>::quiet_NaN());
  const FloatVectorKernels& generic = select_float_vector(Isa::kGeneric);
  for_each_kernel([&](const FloatVectorKernels& kernels) {
    for (int i = 0; i <= static_cast<int>(kLastFloatFunction); ++i) {
      const auto function = static_cast<FloatFunction>(i);
      EDGEKIT_CHECK(
          same_bytes(run(kernels, function, x, 0.2F, 0.5F), run(generic, function, x, 0.2F, 0.5F)),
          std::string(kernels.name) + " function " + std::to_string(i));
    }
  });
}

EDGEKIT_TEST(functions_end_where_their_arrays_do) {
  Random random(test::seed());
  for_each_kernel([&](const FloatVectorKernels& kernels) {
    for (const size_t size : {1u, 3u, 15u, 16u, 17u, 67u}) {
      GuardedBuffer<float> x(size);
      GuardedBuffer<float> y(size);
      test::fill_floats(random, x.data(), size);
      for (int i = 0; i <= static_cast<int>(kLastFloatFunction); ++i) {
        const FloatUnaryArgs args = {
            static_cast<FloatFunction>(i), 0.2F, 0.5F, size, x.data(), y.data()};
        kernels.unary(args);
        const std::vector<float> expected =
            run(kernels, args.function, {x.data(), x.data() + size}, 0.2F, 0.5F);
        EDGEKIT_CHECK(same_bytes(expected, {y.data(), y.data() + size}), kernels.name);
      }
      // In place.
      const std::vector<float> expected =
          run(kernels, FloatFunction::kTanh, {x.data(), x.data() + size});
      kernels.unary({FloatFunction::kTanh, 0, 0, size, x.data(), x.data()});
      EDGEKIT_CHECK(same_bytes(expected, {x.data(), x.data() + size}), kernels.name);
    }
  });
}

EDGEKIT_TEST(operators_equal_reference) {
  Random random(test::seed());
  for_each_kernel([&](const FloatVectorKernels& kernels) {
    for (int i = 0; i <= static_cast<int>(kLastFloatOperator); ++i) {
      const auto op = static_cast<FloatOperator>(i);
      for (const size_t size : {1u, 7u, 16u, 50u}) {
        for (const auto& [a_step, b_step] : {std::pair<int, int>(1, 1), {0, 1}, {1, 0}, {0, 0}}) {
          GuardedBuffer<float> a(a_step ? size : 1);
          GuardedBuffer<float> b(b_step ? size : 1);
          GuardedBuffer<float> y(size);
          test::fill_floats(random, a.data(), a.size());
          test::fill_floats(random, b.data(), b.size());
          FloatBinaryArgs args{op,       0,
                               0,        size,
                               a.data(), static_cast<size_t>(a_step),
                               b.data(), static_cast<size_t>(b_step),
                               y.data()};
          test::pick_clamp(random, &args.lo, &args.hi);
          kernels.binary(args);
          std::vector<float> expected(size);
          for (size_t j = 0; j < size; ++j) {
            const float v = reference_operator(op, a[j * args.a_step], b[j * args.b_step]);
            expected[j] = v < args.lo ? args.lo : v > args.hi ? args.hi : v;
          }
          EDGEKIT_CHECK(same_bytes(expected, {y.data(), y.data() + size}),
                        std::string(kernels.name) + " operator " + std::to_string(i));
        }
      }
    }
  });
}

EDGEKIT_TEST(windows_equal_reference) {
  Random random(test::seed());
  for_each_kernel([&](const FloatVectorKernels& kernels) {
    for (int i = 0; i <= static_cast<int>(kLastFloatReduction); ++i) {
      const auto reduction = static_cast<FloatReduction>(i);
      for (const size_t width : {1u, 16u, 63u, 65u, 130u}) {
        const size_t taps = random.size(1, 9);
        GuardedBuffer<float> x(taps * width);
        test::fill_floats(random, x.data(), x.size());
        std::vector<const float*> rows;
        for (size_t t = 0; t < taps; ++t) rows.push_back(x.data() + t * width);
        GuardedBuffer<float> y(width);
        kernels.window({reduction, 3.0F, taps, rows.data(), width, y.data()});
        for (size_t j = 0; j < width; ++j) {
          float v = x[j];
          for (size_t t = 1; t < taps; ++t) {
            const float next = x[t * width + j];
            v = reduction == FloatReduction::kMax   ? (next > v ? next : v)
                : reduction == FloatReduction::kMin ? (next < v ? next : v)
                                                    : v + next;
          }
          if (reduction == FloatReduction::kMean) v = v / 3.0F;
          EDGEKIT_CHECK(std::memcmp(&v, &y[j], sizeof v) == 0, kernels.name);
        }
      }
    }
  });
}

EDGEKIT_TEST(reductions_and_norms_equal_reference) {
  Random random(test::seed());
  const FloatVectorKernels& generic = select_float_vector(Isa::kGeneric);
  for_each_kernel([&](const FloatVectorKernels& kernels) {
    for (const size_t n : {1u, 2u, 15u, 16u, 33u, 64u, 200u, 257u}) {
      constexpr size_t kRows = 3;
      GuardedBuffer<float> x(kRows * n);
      test::fill_floats(random, x.data(), x.size());
      GuardedBuffer<float> y(kRows * n);
      GuardedBuffer<float> scale(n);
      GuardedBuffer<float> bias(n);
      test::fill_floats(random, scale.data(), n);
      test::fill_floats(random, bias.data(), n);
      std::vector<std::vector<float>> rows;
      for (size_t r = 0; r < kRows; ++r) rows.emplace_back(x.data() + r * n, x.data() + r * n + n);

      std::vector<float> reduced(kRows);
      for (int i = 0; i <= static_cast<int>(kLastFloatReduction); ++i) {
        const auto reduction = static_cast<FloatReduction>(i);
        kernels.reduce({reduction, 7.0F, kRows, n, x.data(), reduced.data()});
        for (size_t r = 0; r < kRows; ++r) {
          const float expected = reduction == FloatReduction::kSum ? reference_sum(rows[r])
                                 : reduction == FloatReduction::kMean
                                     ? reference_sum(rows[r]) / 7.0F
                                 : reduction == FloatReduction::kMax
                                     ? *std::max_element(rows[r].begin(), rows[r].end())
                                     : *std::min_element(rows[r].begin(), rows[r].end());
          EDGEKIT_CHECK(expected == reduced[r], kernels.name);
        }
      }

      kernels.softmax({kRows, n, x.data(), y.data()});
      for (size_t r = 0; r < kRows; ++r) {
        std::vector<float> e = rows[r];
        const float largest = *std::max_element(e.begin(), e.end());
        for (float& value : e) value = value - largest;
        e = run(generic, FloatFunction::kExp, e);
        const float total = reference_sum(e);
        for (float& value : e) value = value / total;
        EDGEKIT_CHECK(same_bytes(e, {y.data() + r * n, y.data() + r * n + n}), kernels.name);
      }

      kernels.norm({kRows, n, 1e-5F, x.data(), scale.data(), bias.data(), y.data()});
      for (size_t r = 0; r < kRows; ++r) {
        const float count = static_cast<float>(n);
        const float mean = reference_sum(rows[r]) / count;
        std::vector<float> squares;
        for (const float value : rows[r]) squares.push_back((value - mean) * (value - mean));
        const float factor = 1.0F / std::sqrt(reference_sum(squares) / count + 1e-5F);
        for (size_t i = 0; i < n; ++i) {
          const float expected = (rows[r][i] - mean) * factor * scale[i] + bias[i];
          EDGEKIT_CHECK(std::memcmp(&expected, &y[r * n + i], sizeof expected) == 0, kernels.name);
        }
      }
    }
  });
}

EDGEKIT_TEST(magnitude_is_that_of_the_largest_or_a_nan) {
  Random random(test::seed());
  for_each_kernel([&](const FloatVectorKernels& kernels) {
    for (const size_t n : {1u, 2u, 15u, 16u, 33u, 64u, 200u, 257u}) {
      constexpr size_t kRows = 3;
      GuardedBuffer<float> x(kRows * n);
      test::fill_floats(random, x.data(), x.size());
      x[n - 1] = -0.0F;
      x[2 * n - 1] = -std::numeric_limits<float>::infinity();
      x[2 * n + random.size(0, n - 1)] = -std::numeric_limits<float>::quiet_NaN();
      float expected[kRows] = {};
      for (size_t i = 0; i < 2 * n; ++i) {
        expected[i / n] = std::max(expected[i / n], std::fabs(x[i]));
      }
      GuardedBuffer<float> y(kRows);
      kernels.magnitude({kRows, n, x.data(), y.data()});
      EDGEKIT_CHECK(y[0] == expected[0] && y[1] == expected[1], kernels.name);
      EDGEKIT_CHECK(std::isnan(y[2]), kernels.name);
    }
  });
}

EDGEKIT_TEST(softmax_of_extreme_rows_equals_the_generic_one) {
  const FloatVectorKernels& generic = select_float_vector(Isa::kGeneric);
  Random random(test::seed());
  for_each_kernel([&](const FloatVectorKernels& kernels) {
    for (int i = 0; i < 200; ++i) {
      // Exponentials down to the smallest floats and to 0, now and then an infinity or NaN.
      const size_t n = random.size(1, 90);
      std::vector<float> x(n);
      for (float& value : x) value = static_cast<float>(random.integer(-120, 0));
      if (random.one_in(4)) {
        x[random.size(0, n - 1)] = random.pick<float>({kInfinity, -kInfinity, NAN, 1e30F});
      }
      if (random.one_in(8)) std::fill(x.begin(), x.end(), -kInfinity);
      std::vector<float> y(n);
      std::vector<float> expected(n);
      kernels.softmax({1, n, x.data(), y.data()});
      generic.softmax({1, n, x.data(), expected.data()});
      EDGEKIT_CHECK(same_bytes(expected, y), kernels.name);
      // In place.
      kernels.softmax({1, n, x.data(), x.data()});
      EDGEKIT_CHECK(same_bytes(expected, x), kernels.name);
    }
  });
}

}  // namespace edgekit
