#include <functional>
#include <string>
#include <vector>

#include "conv_problem.h"
#include "guarded_buffer.h"
#include "ops/depthwise.h"
#include "test.h"

namespace edgekit {
namespace {

using test::ConvProblem;
using test::GuardedBuffer;
using test::Random;

constexpr int kCases = 200;

/// A problem with its constants packed for a kernel.
struct PackedDepthwise {
  PackedDepthwise(ConvProblem& problem, const DepthwiseKernel& kernel, size_t channels)
      : bias(problem.plan_bias()),
        weights(packed_depthwise_size(kernel, channels, problem.window.kernel_h,
                                      problem.window.kernel_w),
                64) {
    pack_depthwise(kernel, problem.weights.data(), channels, problem.window.kernel_h,
                   problem.window.kernel_w, weights.data());
    params.input = problem.input.view();
    params.output = problem.output.view();
    params.kernel = kernel.name;
    params.weights = {reinterpret_cast<const uint8_t*>(weights.data()), weights.size()};
    params.bias = test::blob_of(bias);
    params.multiplier = test::blob_of(problem.multiplier);
    params.window = problem.window;
    params.lo = problem.lo;
    params.hi = problem.hi;
    params.residual = problem.residual;
    params.table = problem.table;
  }

  std::vector<int32_t> bias;
  GuardedBuffer<int8_t> weights;
  DepthwiseParams params;
};

EDGEKIT_TEST(convolutions_equal_the_definition) {
  size_t count = 0;
  const DepthwiseKernel* kernels = depthwise_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    const DepthwiseKernel& kernel = kernels[i];
    if (!test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
    Random random(test::seed());
    for (int j = 0; j < kCases; ++j) {
      size_t in_h = 0;
      size_t in_w = 0;
      const Window window = test::pick_window(random, &in_h, &in_w);
      if (random.one_in(6)) in_h += 20;
      const size_t channels = random.size(1, random.one_in(4) ? 150 : 20);
      ConvProblem problem(random, channels, channels, channels, window, in_h, in_w, DType::kCode,
                          random.one_in(3), kernel.storage);
      const bool nibbles = random.one_in(3);
      if (nibbles) problem.take_nibbles();
      PackedDepthwise packed(problem, kernel, channels);
      const std::vector<int8_t> joined =
          test::join_weights(packed.weights.data(), packed.weights.size());
      if (nibbles) {
        packed.params.weights = test::blob_of(joined);
        packed.params.weight_bits = 4;
      }
      std::string error;
      const std::unique_ptr<Op> op =
          make_depthwise(packed.params, {kernel.isa, kernel.storage}, &error);
      const std::string what = std::string(kernel.name) + " " + problem.describe();
      EDGEKIT_CHECK(op != nullptr, what + ": " + error);
      if (op == nullptr) continue;
      test::check_runs(random, *op, problem.output, problem.expected(), what);
      test::count_case(kernel.isa);
    }
  }
}

EDGEKIT_TEST(scratch_does_not_grow_with_a_stride_that_is_never_taken) {
  const PlanTarget target = {Isa::kGeneric, Storage::kU8};
  const DepthwiseKernel& kernel = select_depthwise(target.isa, target.storage, 5, 3, 3, 1, 1);
  Random random(test::seed());
  Window window;
  window.kernel_h = window.kernel_w = 3;
  window.stride_h = uint32_t{1} << 31u;
  ConvProblem problem(random, 5, 5, 5, window, 6, 6, DType::kCode, false, target.storage);
  const PackedDepthwise packed(problem, kernel, 5);
  std::string error;
  const std::unique_ptr<Op> op = make_depthwise(packed.params, target, &error);
  EDGEKIT_CHECK(op != nullptr, error);
  if (op == nullptr) return;
  // The pointers of three rows, and a row of six pixels of padding.
  EDGEKIT_CHECK(op->scratch_size() <= 64 + 6 * 5 + 64, std::to_string(op->scratch_size()));
  test::check_runs(random, *op, problem.output, problem.expected(), "one row");
}

EDGEKIT_TEST(hostile_parameters_are_refused) {
  const PlanTarget target = {Isa::kGeneric, Storage::kU8};
  const DepthwiseKernel& kernel = select_depthwise(target.isa, target.storage, 5, 3, 3, 1, 1);
  Random random(test::seed());
  Window window;
  window.kernel_h = window.kernel_w = 3;
  ConvProblem problem(random, 5, 5, 5, window, 6, 6, DType::kCode, false, target.storage);
  const PackedDepthwise packed(problem, kernel, 5);
  std::vector<int32_t> small_bias(5, -2147483647 - 1);

  struct Change {
    const char* message;
    std::function<void(DepthwiseParams&)> make;
  };
  const Change changes[] = {
      {"'' is unknown", [](DepthwiseParams& p) { p.kernel = ""; }},
      {"another storage", [](DepthwiseParams& p) { p.kernel = "depthwise_s8_s8c_s8_generic"; }},
      {"weights holds", [](DepthwiseParams& p) { --p.weights.size; }},
      {"bias holds", [](DepthwiseParams& p) { p.bias.size = 0; }},
      {"multiplier holds", [](DepthwiseParams& p) { p.multiplier.data = nullptr; }},
      {"leave int32", [&](DepthwiseParams& p) { p.bias = test::blob_of(small_bias); }},
      {"different channels", [](DepthwiseParams& p) { p.output.shape.dims[3] = 4; }},
      {"in height", [](DepthwiseParams& p) { p.window.kernel_h = 4294967295u; }},
      {"in width", [](DepthwiseParams& p) { p.window.stride_w = 2; }},
      {"exceeds", [](DepthwiseParams& p) { p.window.pad_top = 65536; }},
      {"int8 codes", [](DepthwiseParams& p) { p.output.dtype = DType::kInt32; }},
      {"caller's memory", [](DepthwiseParams& p) { p.input.external = true; }},
      {"overlap", [](DepthwiseParams& p) { p.output.data = p.input.data; }},
  };
  for (const Change& change : changes) {
    DepthwiseParams params = packed.params;
    change.make(params);
    std::string error;
    test::check_refused(make_depthwise(params, target, &error), error, change.message);
  }
  std::string error;
  EDGEKIT_CHECK(make_depthwise(packed.params, target, &error) != nullptr, error);
}

}  // namespace
}  // namespace edgekit
