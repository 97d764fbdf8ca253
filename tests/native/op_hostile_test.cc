#include <string>
#include <vector>

#include "conv_problem.h"
#include "op_harness.h"
#include "ops/conv.h"
#include "ops/depthwise.h"
#include "ops/pool.h"

// Parameters changed at random, as in a plan that someone has tampered with: an op is refused, or
// it stays within its memory, which pages without access surround.

namespace edgekit {
namespace {

using test::ConvProblem;
using test::GuardedBuffer;
using test::OwnedTensor;
using test::Random;

constexpr int kCases = 4000;
constexpr PlanTarget kTarget = {Isa::kGeneric, Storage::kU8};

void change_number(Random& random, uint32_t* number) {
  switch (random.integer(0, 3)) {
    case 0:
      ++*number;
      break;
    case 1:
      --*number;
      break;
    case 2:
      *number = static_cast<uint32_t>(random.integer(0, 8));
      break;
    default:
      *number = random.pick<uint32_t>({65535, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF});
  }
}

/// Changes a dimension so that the tensor still fits its memory, as the runtime has checked.
void change_shape(Random& random, const OwnedTensor& tensor, TensorView* view) {
  const TensorView before = *view;
  view->shape.dims[random.size(0, 3)] = random.integer(1, 12);
  size_t size = dtype_size(view->dtype);
  for (size_t i = 0; i < view->shape.rank; ++i) size *= static_cast<size_t>(view->shape.dims[i]);
  if (size > tensor.size()) *view = before;
}

void change_window(Random& random, Window* window) {
  uint32_t* numbers[] = {&window->kernel_h, &window->kernel_w,   &window->stride_h,
                         &window->stride_w, &window->dilation_h, &window->dilation_w,
                         &window->pad_top,  &window->pad_left,   &window->pad_bottom,
                         &window->pad_right};
  change_number(random, numbers[random.size(0, 9)]);
}

/// What became of the changed parameters.
struct Tally {
  int made = 0;
  int refused = 0;

  void add(Random& random, const std::unique_ptr<Op>& op, const std::string& error) {
    if (op == nullptr) {
      EDGEKIT_CHECK(!error.empty(), "an op is refused without a word");
      ++refused;
      return;
    }
    test::run_in_pieces(random, *op);
    ++made;
  }

  void check() const {
    EDGEKIT_CHECK(made > kCases / 50 && refused > kCases / 50,
                  std::to_string(made) + " made, " + std::to_string(refused) + " refused");
  }
};

EDGEKIT_TEST(convolutions_stay_within_memory) {
  Random random(test::seed());
  Tally tally;
  const GemmKernel& kernel = select_gemm(kTarget.isa, kTarget.storage, 16, 8, 6, 9, true);
  for (int i = 0; i < kCases; ++i) {
    Window window;
    window.kernel_h = window.kernel_w = 3;
    window.pad_top = window.pad_left = window.pad_bottom = window.pad_right = 1;
    ConvProblem problem(random, 1, 8, 8, window, 6, 6, DType::kCode, random.one_in(2),
                        kTarget.storage);
    const bool patches = random.one_in(2);
    const size_t k = patches ? problem.depth() : problem.k;
    const size_t taps = patches ? 1 : problem.taps();
    GuardedBuffer<int8_t> weights(packed_gemm_size(kernel, problem.n, k, taps), 64);
    std::fill(weights.begin(), weights.end(), int8_t{1});
    ConvParams params;
    params.input = problem.input.view();
    params.output = problem.output.view();
    params.kernel = kernel.name;
    params.weights = {reinterpret_cast<const uint8_t*>(weights.data()), weights.size()};
    params.bias = test::blob_of(problem.bias);
    params.multiplier = test::blob_of(problem.multiplier);
    params.window = window;
    params.patches = patches;
    params.residual = problem.residual;
    params.table = problem.table;
    for (size_t changes = random.size(1, 3); changes-- > 0;) {
      switch (random.integer(0, 5)) {
        case 0:
          change_shape(random, problem.input, &params.input);
          break;
        case 1:
          change_shape(random, problem.output, &params.output);
          break;
        case 2:
          change_number(random, &params.groups);
          break;
        case 3:
          params.patches = !params.patches;
          break;
        default:
          change_window(random, &params.window);
      }
    }
    std::string error;
    tally.add(random, make_conv(params, kTarget, &error), error);
  }
  tally.check();
}

EDGEKIT_TEST(depthwise_convolutions_stay_within_memory) {
  Random random(test::seed());
  Tally tally;
  const DepthwiseKernel& kernel = select_depthwise(kTarget.isa, kTarget.storage, 16, 3, 3, 1, 1);
  for (int i = 0; i < kCases; ++i) {
    Window window;
    window.kernel_h = window.kernel_w = 3;
    ConvProblem problem(random, 16, 16, 16, window, 6, 6, DType::kCode, random.one_in(2),
                        kTarget.storage);
    GuardedBuffer<int8_t> weights(packed_depthwise_size(kernel, 16, 3, 3), 64);
    std::fill(weights.begin(), weights.end(), int8_t{1});
    DepthwiseParams params;
    params.input = problem.input.view();
    params.output = problem.output.view();
    params.kernel = kernel.name;
    params.weights = {reinterpret_cast<const uint8_t*>(weights.data()), weights.size()};
    params.bias = test::blob_of(problem.bias);
    params.multiplier = test::blob_of(problem.multiplier);
    params.window = window;
    params.residual = problem.residual;
    params.table = problem.table;
    for (size_t changes = random.size(1, 3); changes-- > 0;) {
      switch (random.integer(0, 3)) {
        case 0:
          change_shape(random, problem.input, &params.input);
          break;
        case 1:
          change_shape(random, problem.output, &params.output);
          break;
        default:
          change_window(random, &params.window);
      }
    }
    std::string error;
    tally.add(random, make_depthwise(params, kTarget, &error), error);
  }
  tally.check();
}

EDGEKIT_TEST(pools_stay_within_memory) {
  Random random(test::seed());
  Tally tally;
  for (int i = 0; i < kCases; ++i) {
    OwnedTensor x("x", DType::kCode, {1, 6, 6, 8});
    OwnedTensor y("y", DType::kCode, {1, 4, 4, 8});
    PoolParams params;
    params.kind = random.pick({PoolKind::kMax, PoolKind::kAverage});
    params.input = x.view();
    params.output = y.view();
    params.window.kernel_h = params.window.kernel_w = 3;
    params.count_include_pad = random.one_in(2);
    for (size_t changes = random.size(1, 3); changes-- > 0;) {
      switch (random.integer(0, 3)) {
        case 0:
          change_shape(random, x, &params.input);
          break;
        case 1:
          change_shape(random, y, &params.output);
          break;
        default:
          change_window(random, &params.window);
      }
    }
    std::string error;
    tally.add(random, make_pool(params, kTarget, &error), error);
  }
  tally.check();
}

}  // namespace
}  // namespace edgekit
