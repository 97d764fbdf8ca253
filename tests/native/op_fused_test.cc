#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "conv_problem.h"
#include "gemm_problem.h"
#include "kernels/fused_requantize.h"
#include "ops/conv.h"
#include "ops/round_up.h"
#include "test.h"

// Layers whose plan has constants for requantizing in one multiplication and addition.

namespace edgekit {
namespace {

using test::ConvProblem;
using test::Random;

/// A pointwise convolution with such constants, its multipliers raised up to where they are proved.
struct FusedConv {
  FusedConv(ConvProblem& problem, const GemmKernel& kernel)
      : bias(problem.plan_bias()),
        start(problem.groups * round_up(problem.n, kernel.nr)),
        slope(start.size()),
        shift(start.size()) {
    const size_t group_size = round_up(packed_gemm_size(kernel, problem.n, problem.k, 1), 64);
    if (kernel.sparse) {
      weights = pack_sparse_gemm(kernel, problem.weights.data(), problem.n, problem.k, 1);
    } else {
      weights.resize(problem.groups * group_size);
      for (size_t g = 0; g < problem.groups; ++g) {
        pack_gemm(kernel, problem.weights.data() + g * problem.n * problem.k, problem.n, problem.k,
                  1, reinterpret_cast<int8_t*>(weights.data()) + g * group_size);
      }
    }
    prove(problem);
    params.input = problem.input.view();
    params.output = problem.output.view();
    params.kernel = kernel.name;
    params.weights = test::blob_of(weights);
    params.bias = test::blob_of(bias);
    params.multiplier = test::blob_of(problem.multiplier);
    params.groups = static_cast<uint32_t>(problem.groups);
    params.lo = problem.lo;
    params.hi = problem.hi;
    params.table = problem.table;
    params.fused = {true, test::blob_of(start), test::blob_of(slope), test::blob_of(shift)};
  }

  void prove(ConvProblem& problem) {
    const int32_t zero_point =
        problem.table.present ? problem.table.zero_point : problem.output.view().zero_point;
    Requantize requantize = {};
    requantize.lo = static_cast<float>(problem.lo - zero_point);
    requantize.hi = static_cast<float>(problem.hi - zero_point);
    requantize.zero_point = zero_point + storage_offset(problem.storage);
    const int64_t most = problem.storage == Storage::kU8 ? 255 : 128;
    const size_t padded_n = start.size() / problem.groups;
    for (size_t i = 0; i < start.size(); ++i) {
      FusedChannel channel = unused_channel();
      if (i % padded_n < problem.n) {
        const size_t c = i / padded_n * problem.n + i % padded_n;
        int64_t sum = 0;
        for (size_t j = 0; j < problem.k; ++j) {
          sum += most * std::abs(problem.weights[c * problem.k + j]);
        }
        const AccumulatorRange range = {bias[c] - sum, bias[c] + sum};
        float& scale = problem.multiplier[c];
        constexpr int kTrials = 16;
        for (int trial = 0; trial < kTrials; ++trial) {
          if (fuse_requantize(scale, bias[c], requantize, range, &channel)) break;
          scale = std::nextafter(scale, 1.0f);
          proved = proved && trial + 1 < kTrials;
        }
      }
      start[i] = channel.start;
      slope[i] = channel.slope;
      shift[i] = channel.shift;
    }
  }

  bool proved = true;
  std::vector<uint8_t> weights;
  std::vector<int32_t> bias;
  std::vector<int32_t> start;
  std::vector<float> slope;
  std::vector<float> shift;
  ConvParams params;
};

ConvProblem pick_conv(Random& random, size_t groups, Storage storage) {
  return ConvProblem(random, groups, groups * random.size(1, 24), groups * random.size(1, 90),
                     Window(), random.size(1, 6), random.size(1, 6), DType::kCode, false, storage);
}

void check_kernel_with_constants(const GemmKernel& kernel) {
  if (!fuses(kernel) || !test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) return;
  Random random(test::seed());
  size_t proved = 0;
  for (int i = 0; i < 100; ++i) {
    ConvProblem problem = pick_conv(random, kernel.sparse ? 1 : random.size(1, 3), kernel.storage);
    for (int32_t& b : problem.bias) b %= 20000;
    FusedConv fused(problem, kernel);
    if (!fused.proved) continue;
    ++proved;
    std::string error;
    const auto op = make_conv(fused.params, {kernel.isa, kernel.storage}, &error);
    EDGEKIT_CHECK(op != nullptr, problem.describe() + ": " + error);
    if (op == nullptr) return;
    test::check_runs(random, *op, problem.output, problem.expected(), problem.describe());
    test::count_case(kernel.isa);
  }
  EDGEKIT_CHECK(proved > 20, std::string(kernel.name) + ": " + std::to_string(proved));
}

/// Groups and tables too.
EDGEKIT_TEST(convolutions_with_constants_equal_the_definition) {
  size_t count = 0;
  const GemmKernel* kernels = gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) check_kernel_with_constants(kernels[i]);
  kernels = sparse_gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) check_kernel_with_constants(kernels[i]);
}

/// Returns a kernel that takes the constants, one that this build has or not.
const GemmKernel* find_fusing_kernel() {
  size_t count = 0;
  const GemmKernel* kernels = gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    if (fuses(kernels[i]) && kernels[i].run != nullptr) return &kernels[i];
  }
  return nullptr;
}

EDGEKIT_TEST(hostile_constants_are_refused) {
  const GemmKernel* kernel = find_fusing_kernel();
  if (kernel == nullptr) return;
  const PlanTarget target = {kernel->isa, kernel->storage};
  Random random(test::seed());
  ConvProblem problem(random, 1, 8, 40, Window(), 3, 3, DType::kCode, false, kernel->storage);
  problem.table.present = false;
  FusedConv fused(problem, *kernel);
  for (size_t i = 0; i < fused.start.size(); ++i) {
    const FusedChannel channel = unused_channel();
    fused.start[i] = channel.start;
    fused.slope[i] = channel.slope;
    fused.shift[i] = channel.shift;
  }
  std::string error;
  EDGEKIT_CHECK(make_conv(fused.params, target, &error) != nullptr, error);

  struct Size {
    const char* message;
    std::function<void(ConvParams&)> make;
  };
  const Size sizes[] = {
      {"start holds", [](ConvParams& p) { p.fused.start.size -= 4; }},
      {"slope holds", [](ConvParams& p) { p.fused.slope.size += 4; }},
      {"shift holds", [](ConvParams& p) { p.fused.shift = {}; }},
      {"only codes without a residual",
       [](ConvParams& p) {
         p.residual.present = true;
         p.residual.tensor = p.input;
         p.residual.tensor.shape = p.output.shape;
         p.residual.scale = 1;
         p.residual.lo = -128;
         p.residual.hi = 127;
       }},
      {"only codes without a residual", [](ConvParams& p) { p.output.dtype = DType::kInt32; }},
  };
  for (const Size& size : sizes) {
    ConvParams params = fused.params;
    size.make(params);
    test::check_refused(make_conv(params, target, &error), error, size.message);
  }

  const float infinity = std::numeric_limits<float>::infinity();
  const std::function<void(FusedConv&)> numbers[] = {
      [](FusedConv& f) { f.start[39] = kFusedBits - 1; },
      [](FusedConv& f) { f.start[47] = kFusedBits + kFusedReach; },
      [](FusedConv& f) { f.start[0] = INT32_MIN; },
      [](FusedConv& f) { f.slope[3] = -1e-3f; },
      [](FusedConv& f) { f.slope[3] = 0.25f; },
      [](FusedConv& f) { f.slope[3] = std::nanf(""); },
      [](FusedConv& f) { f.shift[3] = 0; },
      [](FusedConv& f) { f.shift[3] = 0x1p24f; },
      [&](FusedConv& f) { f.shift[3] = infinity; },
      [](FusedConv& f) { f.shift[3] = std::nanf(""); },
  };
  for (const auto& change : numbers) {
    const auto start = fused.start;
    const auto slope = fused.slope;
    const auto shift = fused.shift;
    change(fused);
    test::check_refused(make_conv(fused.params, target, &error), error, "out of range");
    std::copy(start.begin(), start.end(), fused.start.begin());
    std::copy(slope.begin(), slope.end(), fused.slope.begin());
    std::copy(shift.begin(), shift.end(), fused.shift.begin());
  }
}

/// Wrong constants of allowed ranges give other codes, and touch no memory of others.
EDGEKIT_TEST(forged_constants_run) {
  const GemmKernel* kernel = find_fusing_kernel();
  if (kernel == nullptr || !test::can_run(kernel->name, kernel->isa, true)) return;
  Random random(test::seed());
  for (int i = 0; i < 20; ++i) {
    ConvProblem problem = pick_conv(random, 1, kernel->storage);
    FusedConv fused(problem, *kernel);
    for (size_t c = 0; c < fused.start.size(); ++c) {
      fused.start[c] = kFusedBits + static_cast<int32_t>(random.integer(0, kFusedReach - 1));
      fused.slope[c] = random.log_uniform(1e-6, 0.249);
      fused.shift[c] = static_cast<float>(random.integer(kFusedReach, 2 * kFusedReach - 1));
    }
    std::string error;
    const auto op = make_conv(fused.params, {kernel->isa, kernel->storage}, &error);
    EDGEKIT_CHECK(op != nullptr, error);
    if (op == nullptr) return;
    test::run_in_pieces(random, *op);
  }
}

}  // namespace
}  // namespace edgekit
