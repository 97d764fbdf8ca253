#include <cmath>
#include <string>
#include <vector>

#include "kernels/gemm/gemm.h"
#include "op_harness.h"
#include "ops/matmul.h"
#include "random_codes.h"

// Products of two tensors of codes, with every kernel that takes them, against a definition of a
// few lines.

namespace edgekit {
namespace {

using test::OwnedTensor;
using test::Random;

/// A product with its oracle.
struct Problem {
  Problem(Random& random, Storage in, int64_t batches, int64_t m, int64_t k, int64_t n,
          bool is_transposed, bool shared)
      : storage(in),
        transposed(is_transposed),
        a("a", DType::kCode, {batches, m, k}),
        b("b", DType::kCode, {shared ? 1 : batches, is_transposed ? n : k, is_transposed ? k : n}),
        y("y", DType::kCode, {batches, m, n}),
        codes(256) {
    for (OwnedTensor* tensor : {&a, &b, &y}) test::pick_quantization(random, tensor->view());
    test::fill_bytes(random, a.bytes(), a.size());
    test::fill_bytes(random, b.bytes(), b.size());
    y.view().scale = random.log_uniform(1e-3, 1e3);
    test::fill_bytes(random, codes.data(), codes.size());
  }

  /// Gives b a grid around 0, and no code of -128 where `bounded`.
  void center(bool bounded) {
    b.view().zero_point = 0;
    const uint8_t lowest = test::to_stored(-128, storage);
    for (size_t i = 0; bounded && i < b.size(); ++i) {
      if (b.bytes()[i] == lowest) b.bytes()[i] = test::to_stored(-127, storage);
    }
  }

  MatMulParams params(const GemmKernel& kernel) {
    return {a.view(), b.view(), y.view(), kernel.name, transposed, lo, hi, table};
  }

  void add_table(Random& random) {
    table.present = true;
    table.scale = random.log_uniform(1e-3, 1e3);
    table.zero_point = static_cast<int32_t>(random.integer(-128, 127));
    table.codes = {reinterpret_cast<const uint8_t*>(codes.data()), codes.size()};
  }

  std::vector<uint8_t> expected() {
    const Shape& x = a.view().shape;
    const auto m = static_cast<size_t>(x.dims[1]);
    const auto k = static_cast<size_t>(x.dims[2]);
    const auto n = static_cast<size_t>(y.view().shape.dims[2]);
    const float own_scale = table.present ? table.scale : y.view().scale;
    const int32_t own_zero = table.present ? table.zero_point : y.view().zero_point;
    const float scale = a.view().scale * b.view().scale;
    const float multiplier = scale / own_scale;
    std::vector<uint8_t> result;
    for (size_t row = 0; row < a.size() / k; ++row) {
      const size_t matrix = b.size() == k * n ? 0 : row / m * k * n;
      for (size_t c = 0; c < n; ++c) {
        int32_t sum = 0;
        for (size_t i = 0; i < k; ++i) {
          const size_t place = matrix + (transposed ? c * k + i : i * n + c);
          sum += (a.code(storage, row * k + i) - a.view().zero_point) *
                 (b.code(storage, place) - b.view().zero_point);
        }
        const float product = static_cast<float>(sum) * multiplier;
        int64_t code = test::round_to_code(product, own_zero, lo, hi);
        if (table.present) code = codes[static_cast<size_t>(code + 128)];
        result.push_back(test::to_stored(code, storage));
      }
    }
    return result;
  }

  Storage storage;
  bool transposed;
  OwnedTensor a;
  OwnedTensor b;
  OwnedTensor y;
  int32_t lo = -128;
  int32_t hi = 127;
  FusedTable table;
  std::vector<int8_t> codes;
};

EDGEKIT_TEST(every_kernel_multiplies_codes_as_defined) {
  Random random(test::seed());
  size_t count = 0;
  const GemmKernel* kernels = gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    const GemmKernel& kernel = kernels[i];
    if (kernel.exactness != Exactness::kAlways || kernel.bits != 8 ||
        !test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) {
      continue;
    }
    const PlanTarget target = {kernel.isa, kernel.storage};
    for (int round = 0; round < 60; ++round) {
      const int64_t tile = kernel.nr;
      const int64_t n = random.one_in(3) ? random.pick<int64_t>({tile - 1, tile, tile + 1})
                                         : random.integer(1, 2 * tile + 3);
      Problem problem(random, kernel.storage, random.integer(1, 3),
                      random.integer(1, 2 * kernel.mr + 2), random.integer(1, 70), n,
                      random.one_in(2), random.one_in(3));
      if (random.one_in(2)) problem.center(random.one_in(2));
      test::pick_bounds(random, &problem.lo, &problem.hi);
      if (random.one_in(3)) problem.add_table(random);
      std::string error;
      const auto op = make_matmul(problem.params(kernel), target, &error);
      EDGEKIT_CHECK(op != nullptr, error);
      if (op == nullptr) return;
      test::check_runs(random, *op, problem.y, problem.expected(), kernel.name);
    }
    test::count_case(kernel.isa);
  }
}

EDGEKIT_TEST(products_of_codes_refuse_what_does_not_fit) {
  Random random(test::seed());
  const Storage storage = Storage::kS8;
  const PlanTarget target = {Isa::kGeneric, storage};
  const GemmKernel& kernel = select_gemm(Isa::kGeneric, storage, 4, 5, 6, 1, false);
  Problem problem(random, storage, 2, 4, 6, 5, false, false);
  std::string error;
  EDGEKIT_CHECK(make_matmul(problem.params(kernel), target, &error) != nullptr, error);
  struct Change {
    const char* message;
    void (*make)(MatMulParams&);
  };
  const Change changes[] = {
      {"'none' is unknown", [](MatMulParams& p) { p.kernel = "none"; }},
      {"not exact for every matrix",
       [](MatMulParams& p) { p.kernel = "gemm_u8_s8c_u8_4x16c4_x86_avx2"; }},
      {"not exact for every matrix",
       [](MatMulParams& p) { p.kernel = "gemm_s8_s4c_s8_1x16c4_generic"; }},
      {"don't multiply", [](MatMulParams& p) { p.transposed = true; }},
      {"don't multiply", [](MatMulParams& p) { p.a.shape.dims[0] = 1; }},
      {"don't multiply", [](MatMulParams& p) { p.b.shape.dims[0] = 3; }},
      {"is no matrix", [](MatMulParams& p) { p.b.shape.rank = 1; }},
      {"int8 codes", [](MatMulParams& p) { p.b.dtype = DType::kFloat32; }},
      {"int8 codes", [](MatMulParams& p) { p.output.dtype = DType::kInt32; }},
      {"bounds", [](MatMulParams& p) { p.lo = -129; }},
      {"overlap", [](MatMulParams& p) { p.output.data = p.a.data; }},
      {"overlap", [](MatMulParams& p) { p.output.data = p.b.data; }},
      {"may leave int32",
       [](MatMulParams& p) {
         p.a.shape.dims[2] = p.b.shape.dims[1] = int64_t{1} << 20u;
         // Inputs of this size could reach the output, depending on where they lie.
         p.output.external = true;
       }},
      {"before its table",
       [](MatMulParams& p) {
         p.table.present = true;
         p.table.scale = 0;
       }},
  };
  for (const Change& change : changes) {
    MatMulParams params = problem.params(kernel);
    change.make(params);
    test::check_refused(make_matmul(params, target, &error), error, change.message);
  }
}

}  // namespace
}  // namespace edgekit
