#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "conv_problem.h"
#include "guarded_buffer.h"
#include "kernels/shallow/shallow.h"
#include "ops/conv.h"
#include "ops/fully_connected.h"
#include "test.h"

namespace edgekit {
namespace {

using test::ConvProblem;
using test::GuardedBuffer;
using test::OwnedTensor;
using test::Random;

constexpr int kCases = 200;

/// A problem with its constants packed for a kernel.
struct PackedConv {
  PackedConv(ConvProblem& problem, const GemmKernel& kernel, bool gathered, size_t group_count,
             bool padded = false)
      : bias(problem.plan_bias()),
        multiplier(problem.multiplier),
        k(gathered ? problem.depth() : problem.k),
        taps(gathered ? 1 : problem.taps()),
        size(packed_gemm_size(kernel, problem.n, k, taps)),
        weights((group_count - 1) * ((size + 63) / 64 * 64) + size, 64) {
    for (size_t g = 0; g < group_count; ++g) {
      pack_gemm(kernel, problem.weights.data() + g * problem.n * problem.depth(), problem.n, k,
                taps, weights.data() + g * ((size + 63) / 64 * 64));
    }
    params.input = problem.input.view();
    params.output = problem.output.view();
    params.kernel = kernel.name;
    params.weights = {reinterpret_cast<const uint8_t*>(weights.data()), weights.size()};
    if (padded) {
      pad_groups(kernel, group_count, &bias);
      pad_groups(kernel, group_count, &multiplier);
    }
    params.bias = test::blob_of(bias);
    params.multiplier = test::blob_of(multiplier);
    params.groups = static_cast<uint32_t>(group_count);
    params.window = problem.window;
    params.patches = gathered;
    params.lo = problem.lo;
    params.hi = problem.hi;
    params.residual = problem.residual;
    params.table = problem.table;
  }

  /// Fills each group up to a multiple of nr.
  template <class T>
  static void pad_groups(const GemmKernel& kernel, size_t group_count, std::vector<T>* values) {
    const size_t n = values->size() / group_count;
    const size_t padded_n = (n + kernel.nr - 1) / kernel.nr * kernel.nr;
    std::vector<T> padded(group_count * padded_n);
    for (size_t i = 0; i < values->size(); ++i) padded[i / n * padded_n + i % n] = (*values)[i];
    *values = std::move(padded);
  }

  std::vector<int32_t> bias;
  std::vector<float> multiplier;
  size_t k;
  size_t taps;
  size_t size;
  GuardedBuffer<int8_t> weights;
  ConvParams params;
};

/// A problem of one group with its constants packed for a shallow kernel.
struct PackedShallow {
  PackedShallow(ConvProblem& problem, const ShallowKernel& kernel)
      : bias(problem.plan_bias()),
        weights(packed_shallow_size(kernel, problem.n, problem.k, problem.window.kernel_h,
                                    problem.window.kernel_w),
                64) {
    pack_shallow(kernel, problem.weights.data(), problem.n, problem.k, problem.window.kernel_h,
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
  ConvParams params;
};

void check_shallow(Random& random, const ShallowKernel& kernel) {
  size_t in_h = 0;
  size_t in_w = 0;
  Window window = test::pick_window(random, &in_h, &in_w);
  window.dilation_w = 1;
  if (random.one_in(6)) in_h += 20;
  ConvProblem problem(random, 1, random.size(1, 4), random.size(1, random.one_in(4) ? 100 : 20),
                      window, in_h, in_w, DType::kCode, random.one_in(3), kernel.storage);
  const bool nibbles = random.one_in(3);
  if (nibbles) problem.take_nibbles();
  PackedShallow packed(problem, kernel);
  const std::vector<int8_t> joined =
      test::join_weights(packed.weights.data(), packed.weights.size());
  if (nibbles) {
    packed.params.weights = test::blob_of(joined);
    packed.params.weight_bits = 4;
  }
  std::string error;
  const std::unique_ptr<Op> op = make_conv(packed.params, {kernel.isa, kernel.storage}, &error);
  const std::string what = std::string(kernel.name) + " " + problem.describe();
  EDGEKIT_CHECK(op != nullptr, what + ": " + error);
  if (op == nullptr) return;
  test::check_runs(random, *op, problem.output, problem.expected(), what);
  test::count_case(kernel.isa);
}

void check_conv(Random& random, const GemmKernel& kernel) {
  size_t in_h = 0;
  size_t in_w = 0;
  Window window = test::pick_window(random, &in_h, &in_w);
  // A quarter is pointwise or nearly so, some of it of one pixel.
  if (random.one_in(4)) {
    window = Window();
    if (random.one_in(3)) in_h = in_w = 1;
    // Or a column of pixels.
    window.kernel_h = static_cast<uint32_t>(random.integer(1, 3));
    window.dilation_h = static_cast<uint32_t>(random.integer(1, 2));
    in_h += size_t{window.kernel_h - 1} * window.dilation_h;
  }
  const size_t groups = random.one_in(4) ? random.size(2, 3) : 1;
  const bool patches = groups == 1 && random.one_in(2);
  const DType type = random.one_in(3)   ? DType::kCode
                     : random.one_in(2) ? DType::kInt32
                                        : DType::kFloat32;
  const bool residual = type != DType::kInt32 && random.one_in(2);
  // A third has whole steps of k, so that a window's row is one run where nothing else forbids it.
  const size_t channels =
      random.one_in(3) ? kernel.kr * random.size(1, 3) : random.size(1, random.one_in(4) ? 70 : 9);
  ConvProblem problem(random, groups, groups * channels,
                      groups * random.size(1, random.one_in(4) ? 150 : 20), window, in_h, in_w,
                      type, residual, kernel.storage);
  if (kernel.bits == 4) problem.take_nibbles();
  const PackedConv packed(problem, kernel, patches, groups, random.one_in(2));
  std::string error;
  const std::unique_ptr<Op> op = make_conv(packed.params, {kernel.isa, kernel.storage}, &error);
  const std::string what = std::string(kernel.name) + " " + problem.describe() +
                           (patches ? " patches" : "") + " type " +
                           std::to_string(static_cast<int>(type));
  EDGEKIT_CHECK(op != nullptr, what + ": " + error);
  if (op == nullptr) return;
  test::check_runs(random, *op, problem.output, problem.expected(), what);
  test::count_case(kernel.isa);
}

void check_fully_connected(Random& random, const GemmKernel& kernel) {
  // Rows are images of one pixel or pixels of a line.
  const size_t rows = random.one_in(2) ? 1 : random.size(1, 40);
  ConvProblem problem(random, 1, random.size(1, 90), random.size(1, 300), Window(), 1, rows,
                      random.one_in(2) ? DType::kCode : DType::kFloat32, false, kernel.storage);
  if (kernel.bits == 4) problem.take_nibbles();
  const PackedConv packed(problem, kernel, false, 1);
  FullyConnectedParams params;
  params.input = packed.params.input;
  params.output = packed.params.output;
  params.kernel = kernel.name;
  params.weights = packed.params.weights;
  params.bias = packed.params.bias;
  params.multiplier = packed.params.multiplier;
  params.lo = problem.lo;
  params.hi = problem.hi;
  params.table = problem.table;
  std::string error;
  const std::unique_ptr<Op> op = make_fully_connected(params, {kernel.isa, kernel.storage}, &error);
  const std::string what = std::string(kernel.name) + " " + problem.describe();
  EDGEKIT_CHECK(op != nullptr, what + ": " + error);
  if (op == nullptr) return;
  test::check_runs(random, *op, problem.output, problem.expected(), what);
  test::count_case(kernel.isa);
}

void for_each_gemm_kernel(void (*check)(Random&, const GemmKernel&)) {
  size_t count = 0;
  const GemmKernel* kernels = gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    if (!test::can_run(kernels[i].name, kernels[i].isa, kernels[i].run != nullptr)) continue;
    Random random(test::seed());
    for (int j = 0; j < kCases; ++j) check(random, kernels[i]);
  }
}

EDGEKIT_TEST(convolutions_equal_the_definition) { for_each_gemm_kernel(check_conv); }

EDGEKIT_TEST(shallow_convolutions_equal_the_definition) {
  size_t count = 0;
  const ShallowKernel* kernels = shallow_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    if (!test::can_run(kernels[i].name, kernels[i].isa, kernels[i].run != nullptr)) continue;
    Random random(test::seed());
    for (int j = 0; j < kCases; ++j) check_shallow(random, kernels[i]);
  }
}

EDGEKIT_TEST(hostile_parameters_of_shallow_kernels_are_refused) {
  const PlanTarget target = {Isa::kGeneric, Storage::kS8};
  const ShallowKernel& kernel = *select_shallow(target.isa, target.storage, 8, 3, 3, 3);
  Random random(test::seed());
  Window window;
  window.kernel_h = window.kernel_w = 3;
  window.pad_top = window.pad_left = window.pad_bottom = window.pad_right = 1;
  ConvProblem problem(random, 1, 3, 8, window, 4, 4, DType::kCode, false, target.storage);
  const PackedShallow packed(problem, kernel);
  OwnedTensor wide("wide", DType::kCode, {problem.input.view().shape.dims[0], 4, 4, 33});

  struct Change {
    const char* message;
    std::function<void(ConvParams&)> make;
  };
  const Change changes[] = {
      {"another storage", [](ConvParams& p) { p.kernel = "shallow_u8_s8c_u8_generic"; }},
      {"weights hold", [](ConvParams& p) { --p.weights.size; }},
      {"weights hold", [](ConvParams& p) { p.weight_bits = 4; }},
      {"5 bits", [](ConvParams& p) { p.weight_bits = 5; }},
      {"bias holds", [](ConvParams& p) { p.bias.size -= 4; }},
      {"no groups", [](ConvParams& p) { p.patches = true; }},
      {"no groups",
       [](ConvParams& p) { p.window.dilation_w = 2, ++p.window.pad_left, ++p.window.pad_right; }},
      {"writes codes", [](ConvParams& p) { p.output.dtype = DType::kInt32; }},
      {"this large", [&](ConvParams& p) { p.input = wide.view(); }},
      {"caller's memory", [](ConvParams& p) { p.input.external = true; }},
      {"overlap", [](ConvParams& p) { p.output.data = p.input.data; }},
  };
  for (const Change& change : changes) {
    ConvParams params = packed.params;
    change.make(params);
    std::string error;
    test::check_refused(make_conv(params, target, &error), error, change.message);
  }
  std::string error;
  EDGEKIT_CHECK(make_conv(packed.params, target, &error) != nullptr, error);
}

EDGEKIT_TEST(fully_connected_layers_equal_the_definition) {
  for_each_gemm_kernel(check_fully_connected);
}

/// Checks that a valid convolution is refused, for the reason given, after each change.
EDGEKIT_TEST(hostile_parameters_are_refused) {
  const PlanTarget target = {Isa::kGeneric, Storage::kS8};
  const GemmKernel& kernel = select_gemm(target.isa, target.storage, 16, 8, 6, 9, true);
  Random random(test::seed());
  Window window;
  window.kernel_h = window.kernel_w = 3;
  window.pad_top = window.pad_left = window.pad_bottom = window.pad_right = 1;
  ConvProblem problem(random, 1, 6, 8, window, 4, 4, DType::kCode, true, target.storage);
  const PackedConv packed(problem, kernel, false, 1);
  std::vector<int32_t> large_bias(8, 2147483647);
  const std::vector<int8_t> codes(256);
  std::vector<float> infinite(8, HUGE_VALF);

  struct Change {
    const char* message;
    std::function<void(ConvParams&)> make;
  };
  const Change changes[] = {
      {"'nothing' is unknown", [](ConvParams& p) { p.kernel = "nothing"; }},
      {"another storage", [](ConvParams& p) { p.kernel = "gemm_u8_s8c_u8_1x16c4_generic"; }},
      {"weights hold", [](ConvParams& p) { --p.weights.size; }},
      {"weights hold", [](ConvParams& p) { p.weights.size += 64; }},
      {"weights hold", [](ConvParams& p) { p.weights.data = nullptr; }},
      {"bias holds", [](ConvParams& p) { p.bias.size -= 4; }},
      {"multiplier holds", [](ConvParams& p) { p.multiplier.size += 4; }},
      {"leave int32", [&](ConvParams& p) { p.bias = test::blob_of(large_bias); }},
      {"infinite", [&](ConvParams& p) { p.multiplier = test::blob_of(infinite); }},
      {"bounds", [](ConvParams& p) { p.lo = 5, p.hi = 4; }},
      {"bounds", [](ConvParams& p) { p.hi = 128; }},
      {"groups", [](ConvParams& p) { p.groups = 0; }},
      {"groups", [](ConvParams& p) { p.groups = 4; }},
      {"one group", [](ConvParams& p) { p.groups = 2, p.patches = true; }},
      {"at least 1", [](ConvParams& p) { p.window.stride_h = 0; }},
      {"at least 1", [](ConvParams& p) { p.window.dilation_w = 0; }},
      {"at least 1", [](ConvParams& p) { p.window.kernel_h = 0; }},
      {"in height", [](ConvParams& p) { p.window.stride_h = 2; }},
      {"in width", [](ConvParams& p) { p.window.pad_right = 0; }},
      {"in height", [](ConvParams& p) { p.window.dilation_h = 4294967295u; }},
      {"exceeds", [](ConvParams& p) { p.window.pad_left = 4294967295u; }},
      {"batches", [](ConvParams& p) { ++p.output.shape.dims[0]; }},
      {"must be [n, h, w, c]", [](ConvParams& p) { p.input.shape.rank = 3; }},
      {"dimensions", [](ConvParams& p) { p.input.shape.rank = 9; }},
      {"too large", [](ConvParams& p) { p.input.shape.dims[0] = int64_t{1} << 62; }},
      {"below 1", [](ConvParams& p) { p.input.shape.dims[1] = -4; }},
      {"int8 codes", [](ConvParams& p) { p.input.dtype = DType::kFloat32; }},
      {"codes, int32 or float32",
       [](ConvParams& p) {
         p.output.dtype = DType::kBool;
         p.residual.present = false;
         p.table.present = false;
       }},
      {"unknown type", [](ConvParams& p) { p.output.dtype = static_cast<DType>(17); }},
      {"scale", [](ConvParams& p) { p.input.scale = 0; }},
      {"scale", [](ConvParams& p) { p.output.scale = NAN; }},
      {"zero point", [](ConvParams& p) { p.input.zero_point = 128; }},
      {"no memory", [](ConvParams& p) { p.input.data = nullptr; }},
      {"caller's memory", [](ConvParams& p) { p.input.external = true; }},
      {"overlap", [](ConvParams& p) { p.output.data = p.input.data; }},
      {"overlap", [](ConvParams& p) { p.residual.tensor.data = p.output.data; }},
      {"same shape", [](ConvParams& p) { p.residual.tensor.shape.dims[3] = 4; }},
      {"before the sum", [](ConvParams& p) { p.residual.scale = -1; }},
      {"before its table", [&](ConvParams& p) { p.table = {true, 0, 0, test::blob_of(codes)}; }},
      {"before its table", [&](ConvParams& p) { p.table = {true, 1, 300, test::blob_of(codes)}; }},
      {"fused table holds",
       [&](ConvParams& p) {
         p.table = {true, 1, 0, test::blob_of(codes)};
         --p.table.codes.size;
       }},
      {"must hold codes to take a table",
       [&](ConvParams& p) {
         p.residual.present = false;
         p.table = {true, 1, 0, test::blob_of(codes)};
         p.output.dtype = DType::kInt32;
       }},
      {"before the sum", [](ConvParams& p) { p.residual.zero_point = 128; }},
      {"caller's memory", [](ConvParams& p) { p.residual.tensor.external = true; }},
  };
  for (const Change& change : changes) {
    ConvParams params = packed.params;
    change.make(params);
    std::string error;
    test::check_refused(make_conv(params, target, &error), error, change.message);
  }
  std::string error;
  EDGEKIT_CHECK(make_conv(packed.params, target, &error) != nullptr, error);
}

EDGEKIT_TEST(kernels_beyond_the_plan_are_refused) {
  size_t count = 0;
  const GemmKernel* kernels = gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    if (kernels[i].isa == Isa::kGeneric) continue;
    Random random(test::seed());
    ConvProblem problem(random, 1, 6, 8, Window(), 4, 4, DType::kCode, false, kernels[i].storage);
    const PackedConv packed(problem, kernels[i], false, 1);
    std::string error;
    test::check_refused(make_conv(packed.params, {Isa::kGeneric, kernels[i].storage}, &error),
                        error, kernels[i].run == nullptr ? "not compiled" : "made for generic");
  }
}

EDGEKIT_TEST(fully_connected_rows_must_agree) {
  const PlanTarget target = {Isa::kGeneric, Storage::kS8};
  const GemmKernel& kernel = select_gemm(target.isa, target.storage, 3, 8, 6, 1, true);
  Random random(test::seed());
  ConvProblem problem(random, 1, 6, 8, Window(), 1, 3, DType::kCode, false, target.storage);
  const PackedConv packed(problem, kernel, false, 1);
  FullyConnectedParams params;
  params.input = packed.params.input;
  params.output = packed.params.output;
  params.kernel = kernel.name;
  params.weights = packed.params.weights;
  params.bias = packed.params.bias;
  params.multiplier = packed.params.multiplier;
  std::string error;
  EDGEKIT_CHECK(make_fully_connected(params, target, &error) != nullptr, error);
  params.output.shape.dims[2] = 2;
  test::check_refused(make_fully_connected(params, target, &error), error, "rows");
  params.output.shape.rank = 0;
  test::check_refused(make_fully_connected(params, target, &error), error, "rows");
}

}  // namespace
}  // namespace edgekit
