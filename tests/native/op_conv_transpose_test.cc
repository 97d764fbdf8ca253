#include <cmath>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "conv_problem.h"
#include "kernels/gemm/gemm.h"
#include "op_harness.h"
#include "ops/conv_transpose.h"
#include "random_codes.h"
#include "transposed_problem.h"

// Transposed convolution by every multiplication kernel.

namespace edgekit {
namespace {

using test::OwnedTensor;
using test::Random;

constexpr int kCases = 60;

/// A random problem, its constants in the form of a plan, and what it gives by the definition.
struct Problem {
  Problem(Random& random, const GemmKernel& gemm, DType output_type)
      : kernel(gemm),
        k(random.size(1, 20)),
        n(random.size(1, 24)),
        window(test::pick_transposed_window(random)),
        in({random.integer(1, 2), random.integer(1, 5), random.integer(1, 6),
            static_cast<int64_t>(k)}),
        out(test::pick_transposed_output(random, window, in, n)),
        input("input", DType::kCode, in),
        output("output", output_type, out),
        weights(n * window.kernel_h * window.kernel_w * k),
        bias(n),
        multiplier(n) {
    test::pick_quantization(random, input.view());
    test::pick_quantization(random, output.view());
    test::pick_bounds(random, &lo, &hi);
    test::fill_bytes(random, input.bytes(), input.size());
    const bool nibbles = kernel.bits == 4;
    for (int8_t& w : weights) {
      w = static_cast<int8_t>(nibbles ? random.integer(-8, 7) : random.integer(-64, 64));
    }
    test::fill_bias(random, bias.data(), bias.size());
    for (int32_t& b : bias) b /= nibbles ? 32 : 1;
    for (float& m : multiplier) m = random.log_uniform(1e-3, 1e-1);
    codes.resize(256);
    test::fill_bytes(random, codes.data(), codes.size());
    if (output_type == DType::kCode && random.one_in(3)) {
      table = {true, random.log_uniform(1e-3, 1), static_cast<int32_t>(random.integer(-128, 127)),
               test::blob_of(codes)};
    }
    pack();
  }

  ConvTransposeParams params() {
    ConvTransposeParams made;
    made.input = input.view();
    made.output = output.view();
    made.kernel = kernel.name;
    made.weights = test::blob_of(packed);
    made.bias = test::blob_of(plan_bias);
    made.multiplier = test::blob_of(plan_multiplier);
    made.window = window;
    made.lo = lo;
    made.hi = hi;
    made.table = table;
    return made;
  }

  std::vector<uint8_t> expected() {
    const size_t pixels = output.size() / dtype_size(output.view().dtype) / n;
    std::vector<int64_t> sums(pixels * n);
    for (size_t i = 0; i < sums.size(); ++i) sums[i] = bias[i % n];
    for (int64_t image = 0; image < in[0]; ++image) {
      for (int64_t y = 0; y < in[1]; ++y) {
        for (int64_t x = 0; x < in[2]; ++x) scatter(image, y, x, &sums);
      }
    }
    std::vector<uint8_t> bytes(output.size());
    for (size_t i = 0; i < sums.size(); ++i) {
      const auto acc = static_cast<int32_t>(sums[i]);
      const float v = static_cast<float>(acc) * multiplier[i % n];
      if (output.view().dtype == DType::kInt32) {
        std::memcpy(&bytes[i * 4], &acc, 4);
      } else if (output.view().dtype == DType::kFloat32) {
        std::memcpy(&bytes[i * 4], &v, 4);
      } else {
        const int32_t zero_point = table.present ? table.zero_point : output.view().zero_point;
        int64_t code = test::round_to_code(v, zero_point, lo, hi);
        if (table.present) code = codes[static_cast<size_t>(code + 128)];
        bytes[i] = test::to_stored(code, kernel.storage);
      }
    }
    return bytes;
  }

  std::string describe() const {
    const auto text = [](size_t value) { return std::to_string(value); };
    return std::string(kernel.name) + " n " + text(n) + " k " + text(k) + " kernel " +
           text(window.kernel_h) + "x" + text(window.kernel_w) + " stride " +
           text(window.stride_h) + "x" + text(window.stride_w) + " dilation " +
           text(window.dilation_h) + "x" + text(window.dilation_w) + " pads " +
           text(window.pad_top) + " " + text(window.pad_left) +
           (table.present ? " with table" : "");
  }

  const GemmKernel& kernel;
  size_t k;
  size_t n;
  Window window;
  std::vector<int64_t> in;
  std::vector<int64_t> out;
  OwnedTensor input;
  OwnedTensor output;
  /// [n][kernel_h][kernel_w][k].
  std::vector<int8_t> weights;
  std::vector<int32_t> bias;
  std::vector<float> multiplier;
  int32_t lo = -128;
  int32_t hi = 127;
  std::vector<int8_t> codes;
  FusedTable table;
  std::vector<int8_t> packed;
  std::vector<int32_t> plan_bias;
  std::vector<float> plan_multiplier;

 private:
  void scatter(int64_t image, int64_t y, int64_t x, std::vector<int64_t>* sums) {
    const size_t from = static_cast<size_t>((image * in[1] + y) * in[2] + x) * k;
    for (int64_t r = 0; r < window.kernel_h; ++r) {
      for (int64_t s = 0; s < window.kernel_w; ++s) {
        const int64_t row = y * window.stride_h + r * window.dilation_h - window.pad_top;
        const int64_t column = x * window.stride_w + s * window.dilation_w - window.pad_left;
        if (row < 0 || row >= out[1] || column < 0 || column >= out[2]) continue;
        const size_t to = static_cast<size_t>((image * out[1] + row) * out[2] + column) * n;
        for (size_t o = 0; o < n; ++o) {
          const size_t tap = (o * window.kernel_h + static_cast<size_t>(r)) * window.kernel_w +
                             static_cast<size_t>(s);
          for (size_t c = 0; c < k; ++c) {
            const int64_t code = input.code(kernel.storage, from + c) - input.view().zero_point;
            (*sums)[to + o] += code * weights[tap * k + c];
          }
        }
      }
    }
  }

  void pack() {
    const bool joined = joins_columns(window, in[2], out[2]);
    for (const auto& phase : test::cut_phases(window, weights, n, k, joined)) {
      packed.resize((packed.size() + 63) / 64 * 64);
      const size_t begin = packed.size();
      packed.resize(begin + packed_gemm_size(kernel, phase.n, k, phase.taps));
      pack_gemm(kernel, phase.values.data(), phase.n, k, phase.taps, packed.data() + begin);
      const int32_t zero_point = input.view().zero_point + storage_offset(kernel.storage);
      for (size_t o = 0; o < phase.n; ++o) {
        const int8_t* own = &phase.values[o * phase.taps * k];
        const int32_t sum = std::accumulate(own, own + phase.taps * k, int32_t{0});
        plan_bias.push_back(bias[o % n] - zero_point * sum);
        plan_multiplier.push_back(multiplier[o % n]);
      }
    }
  }
};

EDGEKIT_TEST(transposed_convolutions_equal_the_definition) {
  size_t count = 0;
  const GemmKernel* kernels = gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    if (!test::can_run(kernels[i].name, kernels[i].isa, kernels[i].run != nullptr)) continue;
    Random random(test::seed());
    for (int j = 0; j < kCases; ++j) {
      const DType type = random.pick({DType::kCode, DType::kCode, DType::kInt32, DType::kFloat32});
      Problem problem(random, kernels[i], type);
      std::string error;
      const PlanTarget target = {kernels[i].isa, kernels[i].storage};
      const std::unique_ptr<Op> op = make_conv_transpose(problem.params(), target, &error);
      EDGEKIT_CHECK(op != nullptr, problem.describe() + ": " + error);
      if (op == nullptr) continue;
      test::check_runs(random, *op, problem.output, problem.expected(), problem.describe());
      test::count_case(kernels[i].isa);
    }
  }
}

EDGEKIT_TEST(transposed_convolutions_refuse_what_does_not_fit) {
  const PlanTarget target = {Isa::kGeneric, Storage::kS8};
  const GemmKernel& kernel = select_gemm(target.isa, target.storage, 16, 8, 6, 4, true);
  Random random(test::seed());
  Problem problem(random, kernel, DType::kCode);
  struct Change {
    const char* message;
    std::function<void(ConvTransposeParams&)> make;
  };
  const Change changes[] = {
      {"'nothing' is unknown", [](ConvTransposeParams& p) { p.kernel = "nothing"; }},
      {"before the last phase", [](ConvTransposeParams& p) { p.multiplier.size -= 4; }},
      {"too little", [](ConvTransposeParams& p) { p.bias.size = 0; }},
      {"too little", [](ConvTransposeParams& p) { p.window.kernel_h = 0x7FFFFFFF; }},
      {"too little", [](ConvTransposeParams& p) { p.window.stride_w = 0xFFFFFFFF; }},
      // Sizes that lie: to be refused before they are believed.
      {"too large together",
       [](ConvTransposeParams& p) {
         p.window.kernel_h = p.window.stride_h = 1u << 20u;
         p.weights.size = p.bias.size = size_t{1} << (sizeof(size_t) == 4 ? 31u : 34u);
       }},
      {sizeof(size_t) == 4 ? "too large" : "too little",
       [](ConvTransposeParams& p) {
         p.window.kernel_w = p.window.stride_w = 1u << 31u;
         p.window.pad_left = 0;
         p.window.dilation_w = 1;
         p.input.shape.dims[2] = int64_t{1} << 33u;
         // An input of this size could reach the output, depending on where they lie.
         p.output.external = true;
       }},
      {"at least 1", [](ConvTransposeParams& p) { p.window.stride_h = 0; }},
      {"at least 1", [](ConvTransposeParams& p) { p.window.kernel_w = 0; }},
      {"must be [n, h, w, c]", [](ConvTransposeParams& p) { p.input.shape.rank = 3; }},
      {"batch", [](ConvTransposeParams& p) { ++p.output.shape.dims[0]; }},
      {"int8 codes", [](ConvTransposeParams& p) { p.input.dtype = DType::kFloat32; }},
      {"caller's memory", [](ConvTransposeParams& p) { p.input.external = true; }},
      {"overlap", [](ConvTransposeParams& p) { p.output.data = p.input.data; }},
      {"bounds", [](ConvTransposeParams& p) { p.hi = 128; }},
  };
  std::string error;
  EDGEKIT_CHECK(make_conv_transpose(problem.params(), target, &error) != nullptr, error);
  for (const Change& change : changes) {
    ConvTransposeParams params = problem.params();
    change.make(params);
    test::check_refused(make_conv_transpose(params, target, &error), error, change.message);
  }
}

}  // namespace
}  // namespace edgekit
