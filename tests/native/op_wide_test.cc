#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "conv_problem.h"
#include "kernels/gemm/gemm.h"
#include "kernels/wide/wide.h"
#include "op_harness.h"
#include "ops/wide_layer.h"
#include "random_codes.h"
#include "test.h"

// Layers of int8 weights on int16 codes (16x8) between float32 tensors, with every kernel that adds
// exactly, against the definition: docs/arithmetic.md, "16x8".

namespace edgekit {
namespace {

using test::blob_of;
using test::OwnedTensor;
using test::Random;

constexpr int kCases = 60;
constexpr int kHostileCases = 3000;
constexpr PlanTarget kTarget = {Isa::kGeneric, Storage::kS8};

bool can_run(const GemmKernel& kernel) {
  return kernel.bits == 8 && kernel.exactness == Exactness::kAlways &&
         test::can_run(kernel.name, kernel.isa, kernel.run != nullptr);
}

int64_t code_of(float x, float step) {
  const float ratio = x / step;
  if (std::isnan(ratio)) return -32767;
  return static_cast<int64_t>(std::nearbyint(std::clamp(ratio, -32767.0F, 32767.0F)));
}

/// A random layer, its constants in the form of a plan, and what it gives by the definition.
struct Problem {
  /// A convolution, or, where `kernel` is null, a depthwise one of `in_channels`.
  Problem(Random& random, const GemmKernel* gemm, const Window& moved, size_t in_h, size_t in_w,
          size_t in_channels, size_t out_channels)
      : kernel(gemm),
        window(moved),
        h(in_h),
        w(in_w),
        c(in_channels),
        n(out_channels),
        out_h(extent(h, window.pad_top + window.pad_bottom, window.kernel_h, window.dilation_h,
                     window.stride_h)),
        out_w(extent(w, window.pad_left + window.pad_right, window.kernel_w, window.dilation_w,
                     window.stride_w)),
        input("input", DType::kFloat32, dims(h, w, c)),
        output("output", DType::kFloat32, dims(out_h, out_w, n)),
        weights(n * depth()),
        bias(n),
        multiplier(n) {
    // Powers of two have ties to round.
    step = random.one_in(2) ? 0x1p-9F : random.log_uniform(1e-4, 1e-2);
    params.input_step = step;
    params.output_step = random.log_uniform(1e-4, 1);
    auto* x = reinterpret_cast<float*>(input.bytes());
    for (size_t i = 0; i < 2 * h * w * c; ++i) x[i] = any_value(random);
    test::fill_weights(random, weights.data(), weights.size());
    const int64_t most = random.pick<int64_t>({0, 1000, int64_t{1} << 40, int64_t{1} << 52});
    for (double& b : bias) b = static_cast<double>(random.integer(-most, most));
    for (double& m : multiplier) {
      m = random.one_in(4) ? 0.5 : static_cast<double>(random.log_uniform(1e-9, 10));
    }
    if (random.one_in(3)) {
      params.lo = static_cast<int32_t>(random.integer(-32767, 32767));
      params.hi = static_cast<int32_t>(random.integer(params.lo, 32767));
    }
    params.input = input.view();
    params.output = output.view();
    params.window = window;
    params.bias = blob_of(bias);
    params.multiplier = blob_of(multiplier);
    if (kernel == nullptr) {
      pack_depthwise();
    } else {
      pack_products();
    }
    params.weights = blob_of(packed);
  }

  size_t taps() const { return size_t{window.kernel_h} * window.kernel_w; }
  size_t depth() const { return taps() * (kernel == nullptr ? 1 : c); }

  std::unique_ptr<Op> make(const WideLayerParams& given, const PlanTarget& target,
                           std::string* error) const {
    return kernel == nullptr ? make_wide_depthwise(given, target, error)
                             : make_wide_conv(given, target, error);
  }

  std::vector<uint8_t> expected() {
    std::vector<uint8_t> bytes(output.size());
    for (size_t i = 0; i < bytes.size() / sizeof(float); ++i) {
      const size_t o = i % n;
      const double v = static_cast<double>(sum(i / n, o)) * multiplier[o];
      const auto code = static_cast<int32_t>(std::clamp(
          std::nearbyint(v), static_cast<double>(params.lo), static_cast<double>(params.hi)));
      const float y = static_cast<float>(code) * params.output_step;
      std::memcpy(&bytes[i * sizeof y], &y, sizeof y);
    }
    return bytes;
  }

  std::string describe() const {
    return std::string(kernel == nullptr ? "depthwise" : kernel->name) + " in " +
           std::to_string(h) + "x" + std::to_string(w) + "x" + std::to_string(c) + " out " +
           std::to_string(out_h) + "x" + std::to_string(out_w) + "x" + std::to_string(n) +
           " kernel " + std::to_string(window.kernel_h) + "x" + std::to_string(window.kernel_w);
  }

  const GemmKernel* kernel;
  Window window;
  size_t h;
  size_t w;
  size_t c;
  size_t n;
  size_t out_h;
  size_t out_w;
  float step = 1;
  OwnedTensor input;
  OwnedTensor output;
  /// [n][kernel_h][kernel_w][c], of a depthwise layer [c][kernel_h][kernel_w].
  std::vector<int8_t> weights;
  std::vector<double> bias;
  std::vector<double> multiplier;
  std::vector<int8_t> packed;
  std::vector<int32_t> sums;
  WideLayerParams params;

 private:
  static size_t extent(size_t in, size_t pads, size_t size, size_t dilation, size_t stride) {
    return (in + pads - ((size - 1) * dilation + 1)) / stride + 1;
  }

  static std::vector<int64_t> dims(size_t rows, size_t columns, size_t channels) {
    return {2, static_cast<int64_t>(rows), static_cast<int64_t>(columns),
            static_cast<int64_t>(channels)};
  }

  /// Returns a value of some code, between two, at an end, beyond them, or no number.
  float any_value(Random& random) const {
    if (random.one_in(64)) {
      return random.pick<float>(
          {std::numeric_limits<float>::quiet_NaN(), HUGE_VALF, -HUGE_VALF, 1e30F, -1e30F, -0.0F});
    }
    if (random.one_in(8)) return step * random.pick<float>({-32767, -32766.5F, 32766.5F, 32767});
    const auto code = static_cast<float>(random.integer(-32767, 32767));
    return step * (random.one_in(2) ? code : code + 0.5F);
  }

  void pack_products() {
    packed.resize(packed_gemm_size(*kernel, n, depth(), 1));
    pack_gemm(*kernel, weights.data(), n, depth(), 1, packed.data());
    sums.resize((n + kernel->nr - 1) / kernel->nr * kernel->nr);
    for (size_t i = 0; i < weights.size(); ++i) sums[i / depth()] += weights[i];
    params.kernel = kernel->name;
    params.sums = blob_of(sums);
  }

  void pack_depthwise() {
    packed.resize(weights.size());
    for (size_t i = 0; i < weights.size(); ++i) packed[i % taps() * c + i / taps()] = weights[i];
  }

  int64_t sum(size_t pixel, size_t o) {
    const auto* x = reinterpret_cast<const float*>(input.bytes());
    const size_t image = pixel / (out_h * out_w);
    auto acc = static_cast<int64_t>(bias[o]);
    for (size_t t = 0; t < taps(); ++t) {
      const int64_t row = static_cast<int64_t>(pixel / out_w % out_h * window.stride_h +
                                               t / window.kernel_w * window.dilation_h) -
                          window.pad_top;
      const int64_t column = static_cast<int64_t>(pixel % out_w * window.stride_w +
                                                  t % window.kernel_w * window.dilation_w) -
                             window.pad_left;
      if (row < 0 || row >= static_cast<int64_t>(h) || column < 0 ||
          column >= static_cast<int64_t>(w)) {
        continue;
      }
      const float* at =
          x + ((image * h + static_cast<size_t>(row)) * w + static_cast<size_t>(column)) * c;
      if (kernel == nullptr) {
        acc += code_of(at[o], step) * weights[o * taps() + t];
        continue;
      }
      for (size_t i = 0; i < c; ++i) {
        acc += code_of(at[i], step) * weights[o * depth() + t * c + i];
      }
    }
    return acc;
  }
};

/// Compares an op of the problem with the definition.
void check(Random& random, Problem& problem, const PlanTarget& target) {
  std::string error;
  const auto op = problem.make(problem.params, target, &error);
  EDGEKIT_CHECK(op != nullptr, problem.describe() + ": " + error);
  if (op == nullptr) return;
  test::check_runs(random, *op, problem.output, problem.expected(), problem.describe());
  test::count_case(target.isa);
}

EDGEKIT_TEST(convolutions_are_as_defined) {
  size_t count = 0;
  const GemmKernel* kernels = gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    if (!can_run(kernels[i])) continue;
    Random random(test::seed());
    for (int j = 0; j < kCases; ++j) {
      size_t h = random.size(1, 9);
      size_t w = random.size(1, 9);
      const Window window = random.one_in(3) ? Window() : test::pick_window(random, &h, &w);
      Problem problem(random, &kernels[i], window, h, w, random.size(1, 20),
                      random.size(1, random.one_in(4) ? 70 : 20));
      check(random, problem, {kernels[i].isa, kernels[i].storage});
    }
  }
}

EDGEKIT_TEST(rows_of_any_rank_are_as_defined) {
  const GemmKernel& kernel = select_gemm(kTarget.isa, kTarget.storage, 4, 5, 30, 1, false);
  Random random(test::seed());
  Problem problem(random, &kernel, Window(), 1, 7, 30, 5);
  problem.params.input.shape = {2, {14, 30}};
  problem.params.output.shape = {2, {14, 5}};
  check(random, problem, kTarget);
  problem.params.input.shape = {3, {2, 7, 30}};
  problem.params.output.shape = {3, {2, 7, 5}};
  check(random, problem, kTarget);
}

EDGEKIT_TEST(depthwise_convolutions_are_as_defined) {
  std::set<Isa> seen;
  size_t count = 0;
  const GemmKernel* kernels = gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    const GemmKernel& kernel = kernels[i];
    if (!can_run(kernel) || !seen.insert(kernel.isa).second) continue;
    Random random(test::seed());
    for (int j = 0; j < kCases; ++j) {
      size_t h = 0;
      size_t w = 0;
      const Window window = test::pick_window(random, &h, &w);
      const size_t channels = random.size(1, random.one_in(3) ? 70 : 20);
      Problem problem(random, nullptr, window, h, w, channels, channels);
      check(random, problem, {kernel.isa, kernel.storage});
    }
  }
}

EDGEKIT_TEST(layers_that_do_not_fit_are_refused) {
  const GemmKernel& kernel = select_gemm(kTarget.isa, kTarget.storage, 4, 5, 9 * 6, 1, false);
  Random random(test::seed());
  Window window;
  window.kernel_h = window.kernel_w = 3;
  for (const bool depthwise : {false, true}) {
    Problem problem(random, depthwise ? nullptr : &kernel, window, 8, 8, 6, depthwise ? 6 : 5);
    const std::vector<double> half(problem.n, 0.5);
    const std::vector<double> large(problem.n, 0x1p53);
    const std::vector<double> zeros(problem.n, 0.0);
    const std::vector<double> infinite(problem.n, HUGE_VAL);
    const std::vector<int32_t> sums(problem.sums.size(), 1 << 30);
    struct Change {
      const char* message;
      bool of_products;
      std::function<void(WideLayerParams&)> make;
    };
    const Change changes[] = {
        {"'none' is unknown", true, [](auto& p) { p.kernel = "none"; }},
        {"another storage", true, [](auto& p) { p.kernel = "gemm_u8_s8c_u8_1x16c4_generic"; }},
        {"does not add exactly", true, [](auto& p) { p.kernel = "gemm_s8_s4c_s8_1x16c4_generic"; }},
        {"the sums of weights", true, [](auto& p) { p.sums.size -= 4; }},
        {"larger than they can be", true, [&](auto& p) { p.sums = blob_of(sums); }},
        {"the weights hold", false, [](auto& p) { --p.weights.size; }},
        {"the bias holds", false, [](auto& p) { p.bias.size -= 8; }},
        {"the multiplier holds", false, [](auto& p) { p.multiplier.size += 8; }},
        {"no whole number", false, [&](auto& p) { p.bias = blob_of(half); }},
        {"too large", false, [&](auto& p) { p.bias = blob_of(large); }},
        {"not above 0 and finite", false, [&](auto& p) { p.multiplier = blob_of(zeros); }},
        {"not above 0 and finite", false, [&](auto& p) { p.multiplier = blob_of(infinite); }},
        {"not above 0 and finite", false, [](auto& p) { p.input_step = 0; }},
        {"not above 0 and finite", false, [](auto& p) { p.output_step = -1; }},
        {"outside int16", false, [](auto& p) { p.lo = -32768; }},
        {"outside int16", false, [](auto& p) { p.hi = 32768; }},
        {"outside int16", false,
         [](auto& p) {
           p.lo = 2;
           p.hi = 1;
         }},
        {"float32", false, [](auto& p) { p.input.dtype = DType::kCode; }},
        {"overlap", false, [](auto& p) { p.output.data = p.input.data; }},
    };
    for (const Change& change : changes) {
      if (change.of_products && depthwise) continue;
      WideLayerParams params = problem.params;
      change.make(params);
      std::string error;
      test::check_refused(problem.make(params, kTarget, &error), error, change.message);
    }
    std::string error;
    EDGEKIT_CHECK(problem.make(problem.params, kTarget, &error) != nullptr, error);
  }
}

/// Changes a number of a window or a dimension so that the tensor still fits its memory, as the
/// runtime has checked.
void change(Random& random, const Problem& problem, WideLayerParams* params) {
  Window& w = params->window;
  uint32_t* numbers[] = {&w.kernel_h,   &w.kernel_w, &w.stride_h, &w.stride_w,   &w.dilation_h,
                         &w.dilation_w, &w.pad_top,  &w.pad_left, &w.pad_bottom, &w.pad_right};
  if (random.one_in(2)) {
    uint32_t* number = numbers[random.size(0, 9)];
    *number = random.one_in(2)
                  ? static_cast<uint32_t>(random.integer(0, 8))
                  : random.pick<uint32_t>({65535, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF});
    return;
  }
  const bool first = random.one_in(2);
  TensorView& view = first ? params->input : params->output;
  const TensorView before = view;
  view.shape.dims[random.size(0, 3)] = random.integer(1, 12);
  size_t size = sizeof(float);
  for (size_t i = 0; i < 4; ++i) size *= static_cast<size_t>(view.shape.dims[i]);
  if (size > (first ? problem.input : problem.output).size()) view = before;
}

EDGEKIT_TEST(changed_layers_stay_within_memory) {
  Random random(test::seed());
  Window window;
  window.kernel_h = window.kernel_w = 3;
  window.pad_top = window.pad_left = 1;
  const GemmKernel& kernel = select_gemm(kTarget.isa, kTarget.storage, 36, 5, 9 * 4, 1, false);
  for (const bool depthwise : {false, true}) {
    Problem problem(random, depthwise ? nullptr : &kernel, window, 7, 7, 4, depthwise ? 4 : 5);
    // In memory that ends at a page without access.
    test::GuardedBuffer<int8_t> weights(problem.packed.size(), 64);
    std::copy(problem.packed.begin(), problem.packed.end(), weights.begin());
    problem.params.weights = {reinterpret_cast<const uint8_t*>(weights.data()), weights.size()};
    int made = 0;
    for (int i = 0; i < kHostileCases; ++i) {
      WideLayerParams params = problem.params;
      for (size_t changes = random.size(1, 3); changes-- > 0;) change(random, problem, &params);
      std::string error;
      const auto op = problem.make(params, kTarget, &error);
      EDGEKIT_CHECK(op != nullptr || !error.empty(), "an op is refused without a word");
      if (op == nullptr) continue;
      test::run_in_pieces(random, *op);
      ++made;
    }
    EDGEKIT_CHECK(made > kHostileCases / 50 && made < kHostileCases, std::to_string(made));
  }
}

}  // namespace
}  // namespace edgekit
