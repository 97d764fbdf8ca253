#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "conv_problem.h"
#include "kernels/float_gemm/float_gemm.h"
#include "op_harness.h"
#include "ops/float_conv_transpose.h"
#include "random_floats.h"
#include "transposed_problem.h"

// Transposed convolution in float32 by every multiplication kernel.

namespace edgekit {
namespace {

using test::OwnedTensor;
using test::Random;

constexpr int kCases = 40;

/// A random problem, its constants in the form of a plan, and what it gives by the definition.
struct Problem {
  Problem(Random& random, const FloatGemmKernel& gemm)
      : kernel(gemm),
        groups(random.pick<size_t>({1, 1, 2, 3})),
        k(random.size(1, 9)),
        n(groups * random.size(1, 21)),
        window(test::pick_transposed_window(random)),
        in({random.integer(1, 2), random.integer(1, 5), random.integer(1, 6),
            static_cast<int64_t>(groups * k)}),
        out(test::pick_transposed_output(random, window, in, n)),
        input("input", DType::kFloat32, in),
        output("output", DType::kFloat32, out),
        weights(n * window.kernel_h * window.kernel_w * k),
        bias(n) {
    test::fill_floats(random, values(input), input.size() / sizeof(float));
    test::fill_floats(random, weights.data(), weights.size());
    test::fill_floats(random, bias.data(), bias.size());
    test::pick_clamp(random, &lo, &hi);
    pack();
  }

  FloatConvTransposeParams params() {
    FloatConvTransposeParams made;
    made.input = input.view();
    made.output = output.view();
    made.kernel = kernel.name;
    made.weights = test::blob_of(packed);
    made.bias = test::blob_of(plan_bias);
    made.groups = static_cast<uint32_t>(groups);
    made.window = window;
    made.lo = lo;
    made.hi = hi;
    return made;
  }

  std::vector<uint8_t> expected() {
    std::vector<float> y(output.size() / sizeof(float));
    for (size_t i = 0; i < y.size(); ++i) {
      const float v = sum(static_cast<int64_t>(i / n), i % n);
      y[i] = v < lo ? lo : v > hi ? hi : v;
    }
    const auto* bytes = reinterpret_cast<const uint8_t*>(y.data());
    return {bytes, bytes + output.size()};
  }

  const FloatGemmKernel& kernel;
  size_t groups;
  /// Input channels of a group, and output channels of all.
  size_t k;
  size_t n;
  Window window;
  std::vector<int64_t> in;
  std::vector<int64_t> out;
  OwnedTensor input;
  OwnedTensor output;
  /// [n][kernel_h][kernel_w][k].
  std::vector<float> weights;
  std::vector<float> bias;
  float lo = 0;
  float hi = 0;
  std::vector<float> packed;
  std::vector<float> plan_bias;

 private:
  static float* values(OwnedTensor& tensor) { return reinterpret_cast<float*>(tensor.bytes()); }

  float sum(int64_t pixel, size_t c) {
    const int64_t column = pixel % out[2] + window.pad_left;
    const int64_t row = pixel / out[2] % out[1] + window.pad_top;
    const int64_t image = pixel / out[2] / out[1];
    const auto phase_of = [](int64_t at, int64_t stride) {
      return static_cast<size_t>(at % stride);
    };
    const auto rows = test::taps_of(window.kernel_h, window.stride_h, window.dilation_h,
                                    phase_of(row, window.stride_h));
    const auto columns = test::taps_of(window.kernel_w, window.stride_w, window.dilation_w,
                                       phase_of(column, window.stride_w));
    float acc = bias[c];
    if (rows.empty() || columns.empty()) acc = std::fma(0.0F, 0.0F, acc);
    for (const size_t r : rows) {
      for (const size_t s : columns) {
        const int64_t up = row - static_cast<int64_t>(r) * window.dilation_h;
        const int64_t left = column - static_cast<int64_t>(s) * window.dilation_w;
        const int64_t y = up / window.stride_h;
        const int64_t x = left / window.stride_w;
        const bool inside = up >= 0 && left >= 0 && y < in[1] && x < in[2];
        const size_t first = static_cast<size_t>((image * in[1] + y) * in[2] + x) * groups * k +
                             c / (n / groups) * k;
        const float* w = &weights[((c * window.kernel_h + r) * window.kernel_w + s) * k];
        for (size_t i = 0; i < k; ++i) {
          acc = std::fma(inside ? values(input)[first + i] : 0.0F, w[i], acc);
        }
      }
    }
    return acc;
  }

  void pack() {
    const bool joined = groups == 1 && joins_columns(window, in[2], out[2]);
    for (const auto& phase : test::cut_phases(window, weights, n, k, joined)) {
      packed.resize((packed.size() + 15) / 16 * 16);
      const size_t own = phase.n / groups;
      for (size_t g = 0; g < groups; ++g) {
        const size_t begin = packed.size();
        packed.resize(begin + packed_float_gemm_size(kernel, own, k, phase.taps));
        pack_float_gemm(kernel, phase.values.data() + g * own * phase.taps * k, phase.taps * k, 1,
                        own, k, phase.taps, packed.data() + begin);
      }
      for (size_t o = 0; o < phase.n; ++o) plan_bias.push_back(bias[o % n]);
    }
  }
};

EDGEKIT_TEST(transposed_convolutions_in_float_equal_the_definition) {
  size_t count = 0;
  const FloatGemmKernel* kernels = float_gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    if (!test::can_run(kernels[i].name, kernels[i].isa, kernels[i].run != nullptr)) continue;
    Random random(test::seed());
    for (int j = 0; j < kCases; ++j) {
      Problem problem(random, kernels[i]);
      std::string error;
      const PlanTarget target = {kernels[i].isa, isa_info(kernels[i].isa).storage};
      const std::unique_ptr<Op> op = make_float_conv_transpose(problem.params(), target, &error);
      EDGEKIT_CHECK(op != nullptr, error);
      if (op == nullptr) continue;
      test::check_runs(random, *op, problem.output, problem.expected(), kernels[i].name);
      test::count_case(kernels[i].isa);
    }
  }
}

EDGEKIT_TEST(transposed_convolutions_in_float_refuse_what_does_not_fit) {
  const PlanTarget target = {Isa::kGeneric, Storage::kS8};
  Random random(test::seed());
  Problem problem(random, select_float_gemm(target.isa));
  struct Change {
    const char* message;
    std::function<void(FloatConvTransposeParams&)> make;
  };
  const Change changes[] = {
      {"'nothing' is unknown", [](FloatConvTransposeParams& p) { p.kernel = "nothing"; }},
      {"before the last phase", [](FloatConvTransposeParams& p) { p.weights.size -= 4; }},
      {"too little", [](FloatConvTransposeParams& p) { p.bias.size = 0; }},
      {"too little", [](FloatConvTransposeParams& p) { p.weights.size = 0; }},
      {"too little", [](FloatConvTransposeParams& p) { p.window.kernel_h = 0x7FFFFFFF; }},
      {"too little", [](FloatConvTransposeParams& p) { p.window.stride_w = 0xFFFFFFFF; }},
      // Sizes that lie: to be refused before they are believed.
      {"too large together",
       [](FloatConvTransposeParams& p) {
         p.window.kernel_h = p.window.stride_h = 1u << 20u;
         p.weights.size = p.bias.size = size_t{1} << (sizeof(size_t) == 4 ? 31u : 34u);
       }},
      {"groups", [](FloatConvTransposeParams& p) { p.groups = 0; }},
      {"groups", [](FloatConvTransposeParams& p) { p.groups = 0xFFFFFFFF; }},
      {"at least 1", [](FloatConvTransposeParams& p) { p.window.stride_h = 0; }},
      {"at least 1", [](FloatConvTransposeParams& p) { p.window.dilation_w = 0; }},
      {"must be [n, h, w, c]", [](FloatConvTransposeParams& p) { p.input.shape.rank = 3; }},
      {"batch", [](FloatConvTransposeParams& p) { ++p.output.shape.dims[0]; }},
      {"must hold float32", [](FloatConvTransposeParams& p) { p.input.dtype = DType::kInt32; }},
      {"overlap", [](FloatConvTransposeParams& p) { p.output.data = p.input.data; }},
      {"bounds are empty",
       [](FloatConvTransposeParams& p) { p.hi = std::numeric_limits<float>::quiet_NaN(); }},
  };
  std::string error;
  EDGEKIT_CHECK(make_float_conv_transpose(problem.params(), target, &error) != nullptr, error);
  for (const Change& change : changes) {
    FloatConvTransposeParams params = problem.params();
    change.make(params);
    test::check_refused(make_float_conv_transpose(params, target, &error), error, change.message);
  }
}

}  // namespace
}  // namespace edgekit
