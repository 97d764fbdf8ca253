#include "kernels/float_gemm/float_gemm.h"

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "guarded_buffer.h"
#include "kernels/float_gemm/reference.h"
#include "random.h"
#include "random_floats.h"
#include "test.h"

namespace edgekit {
namespace {

using test::GuardedBuffer;
using test::Random;

constexpr float kUntouched = -12345.0F;

struct Problem {
  size_t m, n, k, taps;
  bool row_pointers;
  bool residual;
};

std::string describe(const FloatGemmKernel& kernel, const Problem& problem) {
  return std::string(kernel.name) + " m " + std::to_string(problem.m) + " n " +
         std::to_string(problem.n) + " k " + std::to_string(problem.k) + " taps " +
         std::to_string(problem.taps) + (problem.row_pointers ? " rows" : " stride") +
         (problem.residual ? " with residual" : "");
}

/// Runs the kernel and the reference on one problem; the floats of y between the rows count too.
void compare(Random& random, const FloatGemmKernel& kernel, const Problem& problem) {
  const auto [m, n, k, taps, row_pointers, residual] = problem;
  test::set_case(describe(kernel, problem));

  std::vector<float> w(n * taps * k);
  test::fill_floats(random, w.data(), w.size());
  GuardedBuffer<float> packed(packed_float_gemm_size(kernel, n, k, taps));
  pack_float_gemm(kernel, w.data(), taps * k, 1, n, k, taps, packed.data());

  const size_t padded = (n + kernel.panel - 1) / kernel.panel * kernel.panel;
  GuardedBuffer<float> bias(padded);
  test::fill_floats(random, bias.data(), padded);

  // Rows lie a_step apart and may overlap; row pointers take any of them in any order.
  const size_t a_step = k + random.size(0, 5);
  const size_t a_rows = m + random.size(0, 3);
  GuardedBuffer<float> a((a_rows - 1) * a_step + k);
  test::fill_floats(random, a.data(), a.size());
  GuardedBuffer<const float*> rows(m * taps);
  for (const float*& row : rows) row = a.data() + random.size(0, a_rows - 1) * a_step;

  const size_t y_step = n + random.size(0, 9);
  const size_t y_size = (m - 1) * y_step + n;
  GuardedBuffer<float> y(y_size);
  std::vector<float> expected(y_size, kUntouched);
  for (float& value : y) value = kUntouched;
  const size_t residual_step = n + random.size(0, 9);
  GuardedBuffer<float> other((m - 1) * residual_step + n);
  test::fill_floats(random, other.data(), other.size());

  FloatGemmArgs args{};
  args.m = m;
  args.n = n;
  args.k = k;
  args.taps = taps;
  args.a = row_pointers ? nullptr : a.data();
  args.a_stride = row_pointers ? 0 : a_step * sizeof(float);
  args.rows = row_pointers ? rows.data() : nullptr;
  args.w = packed.data();
  args.bias = bias.data();
  test::pick_clamp(random, &args.lo, &args.hi);
  args.residual = residual ? other.data() : nullptr;
  args.residual_stride = residual_step * sizeof(float);
  args.y_stride = y_step * sizeof(float);
  args.y = expected.data();
  reference_float_gemm(args, w.data());
  args.y = y.data();
  kernel.run(args);
  test::count_case(kernel.isa);
  EDGEKIT_CHECK(std::memcmp(y.data(), expected.data(), y_size * sizeof(float)) == 0,
                describe(kernel, problem));
}

template <class Body>
void for_each_kernel(const Body& body) {
  size_t count = 0;
  const FloatGemmKernel* kernels = float_gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    if (test::can_run(kernels[i].name, kernels[i].isa, kernels[i].run != nullptr)) body(kernels[i]);
  }
}

}  // namespace

EDGEKIT_TEST(equals_reference_at_boundaries) {
  Random random(test::seed());
  for_each_kernel([&](const FloatGemmKernel& kernel) {
    for (const size_t m : {size_t{1}, size_t{2}, kernel.mr - 1, kernel.mr, kernel.mr + 1}) {
      for (const size_t n : {size_t{1}, size_t{7}, kernel.panel, kernel.panel + 1, kernel.nr + 5,
                             8 * kernel.panel + 3}) {
        for (const size_t k : {size_t{0}, size_t{1}, size_t{4}, size_t{19}}) {
          compare(random, kernel, {m, n, k, 1, false, random.one_in(2)});
        }
        compare(random, kernel, {m, n, 5, 9, true, random.one_in(2)});
      }
    }
  });
}

EDGEKIT_TEST(equals_reference_where_sums_are_cut) {
  Random random(test::seed());
  for_each_kernel([&](const FloatGemmKernel& kernel) {
    compare(random, kernel, {1, 33, 2049, 1, false, true});
    compare(random, kernel, {9, 17, 4099, 1, false, true});
    compare(random, kernel, {3, 18, 700, 7, true, true});
    compare(random, kernel, {5, 9, 3000, 3, true, false});
    // More rows than one block takes.
    compare(random, kernel, {60, 5, 2100, 1, false, false});
  });
}

EDGEKIT_TEST(equals_reference_on_random_problems) {
  Random random(test::seed());
  for_each_kernel([&](const FloatGemmKernel& kernel) {
    for (int i = 0; i < 60; ++i) {
      const bool row_pointers = random.one_in(2);
      compare(random, kernel,
              {random.size(1, 40), random.size(1, 70), random.size(1, 40),
               row_pointers ? random.size(1, 5) : 1, row_pointers, random.one_in(3)});
    }
  });
}

EDGEKIT_TEST(keeps_nan_and_clamps_infinity) {
  for_each_kernel([&](const FloatGemmKernel& kernel) {
    test::set_case(kernel.name);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const float infinity = std::numeric_limits<float>::infinity();
    const float a[3] = {nan, infinity, -infinity};
    const float w[1] = {1.0F};
    std::vector<float> packed(packed_float_gemm_size(kernel, 1, 1, 1));
    pack_float_gemm(kernel, w, 1, 1, 1, 1, 1, packed.data());
    const std::vector<float> bias(kernel.panel);
    float y[3] = {};
    FloatGemmArgs args{};
    args.m = 3;
    args.n = args.k = args.taps = 1;
    args.a = a;
    args.a_stride = args.y_stride = sizeof(float);
    args.w = packed.data();
    args.bias = bias.data();
    args.lo = -2;
    args.hi = 6;
    args.y = y;
    kernel.run(args);
    test::count_case(kernel.isa);
    EDGEKIT_CHECK(y[0] != y[0] && y[1] == 6 && y[2] == -2, kernel.name);
  });
}

EDGEKIT_TEST(packs_columns_of_either_matrix_order) {
  const FloatGemmKernel& kernel = select_float_gemm(Isa::kGeneric);
  // [n][k] = [[1, 2], [3, 4], [5, 6]] and its transpose.
  const float rows[] = {1, 2, 3, 4, 5, 6};
  const float columns[] = {1, 3, 5, 2, 4, 6};
  std::vector<float> a(packed_float_gemm_size(kernel, 3, 2, 1));
  std::vector<float> b(a.size());
  pack_float_gemm(kernel, rows, 2, 1, 3, 2, 1, a.data());
  pack_float_gemm(kernel, columns, 1, 3, 3, 2, 1, b.data());
  EDGEKIT_CHECK(a == b, "orders");
  EDGEKIT_CHECK(a[0] == 1 && a[1] == 3 && a[kernel.panel + 2] == 6 && a[3] == 0, "layout");
}

EDGEKIT_TEST(every_instruction_set_has_a_kernel) {
  size_t count = 0;
  const IsaInfo* isas = isa_table(&count);
  for (size_t i = 0; i < count; ++i) {
    EDGEKIT_CHECK(isa_contains(isas[i].isa, select_float_gemm(isas[i].isa).isa), isas[i].name);
  }
  EDGEKIT_CHECK(find_float_gemm_kernel("gemm_f32_f32_f32_generic") != nullptr, "by name");
  EDGEKIT_CHECK(find_float_gemm_kernel("gemm_f32") == nullptr, "by name");
}

}  // namespace edgekit
