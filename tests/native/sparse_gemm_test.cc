#include "kernels/sparse_gemm/sparse_gemm.h"

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "conv_problem.h"
#include "gemm_problem.h"
#include "ops/conv.h"
#include "ops/fully_connected.h"
#include "test.h"

namespace edgekit {
namespace {

using test::ConvProblem;
using test::GuardedBuffer;
using test::Random;

void for_each_kernel(int cases, const std::function<void(Random&, const GemmKernel&)>& check) {
  size_t count = 0;
  const GemmKernel* kernels = sparse_gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    if (!test::can_run(kernels[i].name, kernels[i].isa, kernels[i].run != nullptr)) continue;
    Random random(test::seed());
    for (int j = 0; j < cases; ++j) check(random, kernels[i]);
  }
}

EDGEKIT_TEST(kernels_equal_the_reference) {
  for_each_kernel(600, [](Random& random, const GemmKernel& kernel) {
    static size_t before = test::fused_problems();
    static int cases = 0;
    if (++cases % 600 == 1) before = test::fused_problems();
    test::compare(random, kernel, test::pick_problem(random, kernel));
    if (cases % 600 == 0) test::check_fused(kernel, before, 30);
  });
}

EDGEKIT_TEST(many_rows_equal_the_reference) {
  for_each_kernel(2, [](Random& random, const GemmKernel& kernel) {
    test::GemmProblem problem{};
    problem.m = random.size(100, 300);
    problem.n = random.size(6, 200);
    problem.taps = 1;
    problem.k = random.size(300, 700);
    problem.output = Output::kCodes;
    problem.residual = random.one_in(2);
    test::compare(random, kernel, problem);
  });
}

/// What is packed are the weights, block by block, and no block of zeros.
EDGEKIT_TEST(packed_blocks_are_the_weights) {
  size_t count = 0;
  const GemmKernel* kernels = sparse_gemm_kernels(&count);
  Random random(test::seed());
  for (size_t i = 0; i < count; ++i) {
    const GemmKernel& kernel = kernels[i];
    const size_t n = test::pick_size(random, kernel.nr);
    const size_t k = test::pick_size(random, kernel.kr);
    const size_t taps = random.size(1, 3);
    std::vector<int8_t> w(n * taps * k);
    test::fill_weights(random, w.data(), w.size());
    test::clear_blocks(random, kernel, n, k, taps, w.data());
    const std::vector<uint8_t> packed = pack_sparse_gemm(kernel, w.data(), n, k, taps);
    const SparseWeights parts = sparse_weights(kernel, packed.data(), n, taps);
    const size_t lists = (n + kernel.nr - 1) / kernel.nr * taps;
    EDGEKIT_CHECK(check_sparse_gemm(kernel, packed.data(), packed.size(), n, k, taps) == nullptr,
                  kernel.name);
    EDGEKIT_CHECK(parts.starts[lists] == count_blocks(kernel, w.data(), n, k, taps), kernel.name);

    std::vector<int8_t> unpacked(w.size());
    for (size_t list = 0; list < lists; ++list) {
      for (size_t b = parts.starts[list]; b < parts.starts[list + 1]; ++b) {
        bool empty = true;
        for (size_t j = 0; j < size_t{kernel.nr} * kernel.kr; ++j) {
          const int8_t weight = parts.w[b * kernel.nr * kernel.kr + j];
          const size_t cell = j / kernel.unit;
          const size_t c = list / taps * kernel.nr + cell % kernel.nr;
          const size_t at =
              parts.steps[b] * size_t{kernel.kr} + cell / kernel.nr * kernel.unit + j % kernel.unit;
          empty = empty && weight == 0;
          if (c < n && at < k) unpacked[(c * taps + list % taps) * k + at] = weight;
        }
        EDGEKIT_CHECK(!empty, kernel.name);
      }
    }
    EDGEKIT_CHECK(unpacked == w, kernel.name);

    std::vector<int64_t> sums(n);
    for (size_t j = 0; j < w.size(); ++j) sums[j / (taps * k)] += w[j] < 0 ? -w[j] : w[j];
    EDGEKIT_CHECK(sum_magnitudes(kernel, parts, n, taps) == sums, kernel.name);
  }
}

/// A kernel is the same on every machine, and belongs to the instruction set or one in it.
EDGEKIT_TEST(selects_a_kernel_for_every_instruction_set) {
  size_t count = 0;
  const IsaInfo* isas = isa_table(&count);
  for (size_t i = 0; i < count; ++i) {
    for (const bool fits : {false, true}) {
      const GemmKernel& kernel = select_sparse_gemm(isas[i].isa, isas[i].storage, fits);
      EDGEKIT_CHECK(kernel.storage == isas[i].storage, kernel.name);
      EDGEKIT_CHECK(isa_contains(isas[i].isa, kernel.isa), kernel.name);
      EDGEKIT_CHECK(fits || kernel.exactness == Exactness::kAlways, kernel.name);
      EDGEKIT_CHECK(find_sparse_gemm_kernel(kernel.name) == &kernel, kernel.name);
    }
  }
}

/// A convolution whose weights are packed for a sparse kernel.
struct SparseConv {
  SparseConv(Random& random, ConvProblem& problem, const GemmKernel& kernel, bool patches) {
    const size_t k = patches ? problem.depth() : problem.k;
    const size_t taps = patches ? 1 : problem.taps();
    test::clear_blocks(random, kernel, problem.n, k, taps, problem.weights.data());
    packed = pack_sparse_gemm(kernel, problem.weights.data(), problem.n, k, taps);
    bias = problem.plan_bias();
    params.input = problem.input.view();
    params.output = problem.output.view();
    params.kernel = kernel.name;
    params.weights = test::blob_of(packed);
    params.bias = test::blob_of(bias);
    params.multiplier = test::blob_of(problem.multiplier);
    params.window = problem.window;
    params.patches = patches;
    params.lo = problem.lo;
    params.hi = problem.hi;
    params.residual = problem.residual;
    params.table = problem.table;
  }

  std::vector<uint8_t> packed;
  std::vector<int32_t> bias;
  ConvParams params;
};

void check_conv(Random& random, const GemmKernel& kernel) {
  size_t in_h = 0;
  size_t in_w = 0;
  Window window = test::pick_window(random, &in_h, &in_w);
  if (random.one_in(3)) window = Window();
  const DType type =
      random.one_in(2) ? DType::kCode : random.pick({DType::kInt32, DType::kFloat32});
  const bool residual = type == DType::kCode && random.one_in(2);
  ConvProblem problem(random, 1, random.size(1, 70), random.size(1, 150), window, in_h, in_w, type,
                      residual, kernel.storage);
  const SparseConv sparse(random, problem, kernel, random.one_in(3));
  std::string error;
  const std::unique_ptr<Op> op = make_conv(sparse.params, {kernel.isa, kernel.storage}, &error);
  const std::string what = std::string(kernel.name) + " " + problem.describe();
  EDGEKIT_CHECK(op != nullptr, what + ": " + error);
  if (op == nullptr) return;
  test::check_runs(random, *op, problem.output, problem.expected(), what);
  test::count_case(kernel.isa);
}

EDGEKIT_TEST(convolutions_equal_the_definition) { for_each_kernel(100, check_conv); }

/// Few rows are cut into tiles of columns too.
EDGEKIT_TEST(fully_connected_layers_equal_the_definition) {
  for_each_kernel(100, [](Random& random, const GemmKernel& kernel) {
    ConvProblem problem(random, 1, random.size(1, 90), random.size(1, 300), Window(), 1,
                        random.one_in(2) ? 1 : random.size(1, 40), DType::kCode, false,
                        kernel.storage);
    const SparseConv sparse(random, problem, kernel, false);
    FullyConnectedParams params;
    params.input = sparse.params.input;
    params.output = sparse.params.output;
    params.kernel = kernel.name;
    params.weights = sparse.params.weights;
    params.bias = sparse.params.bias;
    params.multiplier = sparse.params.multiplier;
    params.lo = problem.lo;
    params.hi = problem.hi;
    params.table = problem.table;
    std::string error;
    const auto op = make_fully_connected(params, {kernel.isa, kernel.storage}, &error);
    const std::string what = std::string(kernel.name) + " " + problem.describe();
    EDGEKIT_CHECK(op != nullptr, what + ": " + error);
    if (op == nullptr) return;
    test::check_runs(random, *op, problem.output, problem.expected(), what);
    test::count_case(kernel.isa);
  });
}

EDGEKIT_TEST(forged_weights_are_refused) {
  const PlanTarget target = {Isa::kGeneric, Storage::kS8};
  const GemmKernel& kernel = select_sparse_gemm(target.isa, target.storage, true);
  Random random(test::seed());
  Window window;
  window.kernel_h = window.kernel_w = 2;
  ConvProblem problem(random, 1, 20, 40, window, 4, 4, DType::kCode, false, target.storage);
  const SparseConv sparse(random, problem, kernel, false);
  // Every block is full: 3 panels of 4 taps of 5 steps.
  std::fill(problem.weights.begin(), problem.weights.end(), int8_t{1});
  std::vector<uint8_t> packed = pack_sparse_gemm(kernel, problem.weights.data(), 40, 20, 4);
  constexpr size_t kLists = 12;

  struct Change {
    const char* message;
    std::function<void(uint32_t* starts, uint16_t* steps, ConvParams& params)> make;
  };
  const Change changes[] = {
      {"one group",
       [](uint32_t*, uint16_t*, ConvParams& p) {
         p.groups = 2;
         p.input.shape.dims[3] *= 2;
       }},
      {"multiple of 4",
       [](uint32_t*, uint16_t*, ConvParams& p) { ++p.weights.data, --p.weights.size; }},
      {"multiple of 4", [](uint32_t*, uint16_t*, ConvParams& p) { p.weights.data = nullptr; }},
      {"within the counts",
       [](uint32_t*, uint16_t*, ConvParams& p) { p.weights.size = 4 * kLists + 3; }},
      {"within the counts", [](uint32_t*, uint16_t*, ConvParams& p) { p.weights.size = 0; }},
      {"before the first", [](uint32_t* starts, uint16_t*, ConvParams&) { starts[0] = 1; }},
      {"fewer than no blocks", [](uint32_t* starts, uint16_t*, ConvParams&) { starts[3] = 99; }},
      {"fewer than no blocks",
       [](uint32_t* starts, uint16_t*, ConvParams&) { starts[1] = UINT32_MAX; }},
      {"as many bytes", [](uint32_t* starts, uint16_t*, ConvParams&) { ++starts[kLists]; }},
      {"as many bytes",
       [](uint32_t* starts, uint16_t*, ConvParams&) { starts[kLists] = UINT32_MAX; }},
      {"as many bytes", [](uint32_t*, uint16_t*, ConvParams& p) { --p.weights.size; }},
      {"as many bytes", [](uint32_t*, uint16_t*, ConvParams& p) { p.weights.size -= 64; }},
      {"behind the end of k", [](uint32_t*, uint16_t* steps, ConvParams&) { steps[4] = 5; }},
      {"behind the end of k",
       [](uint32_t*, uint16_t* steps, ConvParams&) { steps[59] = UINT16_MAX; }},
      {"out of order", [](uint32_t*, uint16_t* steps, ConvParams&) { steps[1] = 0; }},
      {"out of order", [](uint32_t* starts, uint16_t*, ConvParams&) { ++starts[2]; }},
  };
  for (const Change& change : changes) {
    GuardedBuffer<uint8_t> forged(packed.size(), alignof(uint32_t));
    std::copy(packed.begin(), packed.end(), forged.data());
    ConvParams params = sparse.params;
    params.weights = {forged.data(), forged.size()};
    auto* starts = reinterpret_cast<uint32_t*>(forged.data());
    change.make(starts, reinterpret_cast<uint16_t*>(starts + kLists + 1), params);
    std::string error;
    test::check_refused(make_conv(params, target, &error), error, change.message);
  }
  ConvParams params = sparse.params;
  params.weights = test::blob_of(packed);
  std::string error;
  EDGEKIT_CHECK(make_conv(params, target, &error) != nullptr, error);
}

/// Blocks of this kernel lay in another order once, under another name.
EDGEKIT_TEST(plans_of_an_earlier_packing_are_refused) {
  const PlanTarget target = {Isa::kX86Avx2, Storage::kU8};
  const GemmKernel& kernel = select_sparse_gemm(target.isa, target.storage, false);
  Random random(test::seed());
  ConvProblem problem(random, 1, 20, 40, Window(), 4, 4, DType::kCode, false, target.storage);
  SparseConv sparse(random, problem, kernel, false);
  sparse.params.kernel = "sparse_gemm_u8_s8c_u8_2x16c4_x86_avx2";
  std::string error;
  test::check_refused(make_conv(sparse.params, target, &error), error,
                      "is unknown: the plan was written by another version");
}

}  // namespace
}  // namespace edgekit
