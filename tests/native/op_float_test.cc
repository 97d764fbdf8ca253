#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "conv_problem.h"
#include "kernels/float_depthwise/float_depthwise.h"
#include "kernels/float_gemm/float_gemm.h"
#include "kernels/gemm/gemm.h"
#include "op_harness.h"
#include "ops/check.h"
#include "ops/dynamic_fully_connected.h"
#include "ops/float_conv.h"
#include "ops/float_elementwise.h"
#include "ops/float_layer_norm.h"
#include "ops/float_matmul.h"
#include "ops/float_pool.h"
#include "ops/float_reduce.h"
#include "ops/float_resize.h"
#include "ops/float_softmax.h"
#include "random_floats.h"

namespace edgekit {
namespace {

using test::blob_of;
using test::OwnedTensor;
using test::Random;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr PlanTarget kTarget = {Isa::kGeneric, Storage::kS8};

float* floats(OwnedTensor& tensor) { return reinterpret_cast<float*>(tensor.bytes()); }

void fill(Random& random, OwnedTensor& tensor) {
  test::fill_floats(random, floats(tensor), tensor.size() / sizeof(float));
}

std::vector<uint8_t> bytes_of(const std::vector<float>& values) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
  return {bytes, bytes + values.size() * sizeof(float)};
}

float clip(float v, float lo, float hi) { return v < lo ? lo : v > hi ? hi : v; }

int64_t extent(size_t in, uint32_t pads, uint32_t kernel, uint32_t dilation, uint32_t stride) {
  return static_cast<int64_t>((in + pads - ((kernel - 1) * dilation + 1)) / stride + 1);
}

/// A random convolution in float32 and what it gives, computed by the definition.
struct Problem {
  Problem(Random& random, size_t group_count, size_t in_channels, size_t out_channels, bool adds)
      : window(test::pick_window(random, &in_h, &in_w)),
        groups(group_count),
        k(in_channels / groups),
        out_h(extent(in_h, window.pad_top + window.pad_bottom, window.kernel_h, window.dilation_h,
                     window.stride_h)),
        out_w(extent(in_w, window.pad_left + window.pad_right, window.kernel_w, window.dilation_w,
                     window.stride_w)),
        input("input", DType::kFloat32,
              {2, static_cast<int64_t>(in_h), static_cast<int64_t>(in_w),
               static_cast<int64_t>(in_channels)}),
        output("output", DType::kFloat32, {2, out_h, out_w, static_cast<int64_t>(out_channels)}),
        other("other", DType::kFloat32, {2, out_h, out_w, static_cast<int64_t>(out_channels)}),
        weights(out_channels * window.kernel_h * window.kernel_w * k),
        bias(out_channels) {
    fill(random, input);
    fill(random, other);
    test::fill_floats(random, weights.data(), weights.size());
    test::fill_floats(random, bias.data(), bias.size());
    test::pick_clamp(random, &epilogue.lo, &epilogue.hi);
    epilogue.bias = blob_of(bias);
    epilogue.adds = adds;
    epilogue.residual = other.view();
  }

  std::vector<uint8_t> expected() {
    std::vector<float> y(output.size() / sizeof(float));
    const size_t channels = bias.size();
    for (size_t i = 0; i < y.size(); ++i) {
      float v = sum(i / channels, i % channels);
      if (epilogue.adds) v = v + floats(other)[i];
      y[i] = clip(v, epilogue.lo, epilogue.hi);
    }
    return bytes_of(y);
  }

  float sum(size_t pixel, size_t c) {
    const auto column = static_cast<int64_t>(pixel) % out_w;
    const auto row = static_cast<int64_t>(pixel) / out_w % out_h;
    const auto image = static_cast<int64_t>(pixel) / out_w / out_h;
    const size_t first = c / (bias.size() / groups) * k;
    const float* w = weights.data() + c * window.kernel_h * window.kernel_w * k;
    float acc = bias[c];
    for (int64_t r = 0; r < window.kernel_h; ++r) {
      for (int64_t s = 0; s < window.kernel_w; ++s) {
        const int64_t y = row * window.stride_h + r * window.dilation_h - window.pad_top;
        const int64_t x = column * window.stride_w + s * window.dilation_w - window.pad_left;
        const bool inside =
            y >= 0 && x >= 0 && y < static_cast<int64_t>(in_h) && x < static_cast<int64_t>(in_w);
        for (size_t i = 0; i < k; ++i) {
          const auto at =
              static_cast<size_t>(
                  (image * static_cast<int64_t>(in_h) + y) * static_cast<int64_t>(in_w) + x) *
                  groups * k +
              first + i;
          acc = std::fma(inside ? floats(input)[at] : 0.0F, *w++, acc);
        }
      }
    }
    return acc;
  }

  size_t taps() const { return size_t{window.kernel_h} * window.kernel_w; }

  size_t in_h = 0;
  size_t in_w = 0;
  Window window;
  size_t groups;
  size_t k;
  int64_t out_h;
  int64_t out_w;
  OwnedTensor input;
  OwnedTensor output;
  OwnedTensor other;
  std::vector<float> weights;
  std::vector<float> bias;
  FloatEpilogue epilogue;
};

/// Returns the parameters of `problem` for `kernel`; `packed` owns the weights.
FloatConvParams conv_params(const Problem& problem, const FloatGemmKernel& kernel,
                            std::vector<float>* packed) {
  const size_t n = problem.bias.size() / problem.groups;
  const size_t taps = problem.taps();
  const size_t k = problem.k;
  const size_t size = packed_float_gemm_size(kernel, n, k, taps);
  packed->resize(problem.groups * size);
  for (size_t g = 0; g < problem.groups; ++g) {
    pack_float_gemm(kernel, problem.weights.data() + g * n * taps * k, taps * k, 1, n, k, taps,
                    packed->data() + g * size);
  }
  FloatConvParams params;
  params.input = problem.input.view();
  params.output = problem.output.view();
  params.kernel = kernel.name;
  params.weights = blob_of(*packed);
  params.epilogue = problem.epilogue;
  params.groups = static_cast<uint32_t>(problem.groups);
  params.window = problem.window;
  return params;
}

FloatDepthwiseParams depthwise_params(const Problem& problem, const FloatDepthwiseKernel& kernel,
                                      std::vector<float>* packed) {
  const Window& w = problem.window;
  packed->resize(packed_float_depthwise_size(kernel, problem.bias.size(), w.kernel_h, w.kernel_w));
  pack_float_depthwise(kernel, problem.weights.data(), problem.bias.size(), w.kernel_h, w.kernel_w,
                       packed->data());
  FloatDepthwiseParams params;
  params.input = problem.input.view();
  params.output = problem.output.view();
  params.kernel = kernel.name;
  params.weights = blob_of(*packed);
  params.epilogue = problem.epilogue;
  params.window = w;
  return params;
}

}  // namespace

EDGEKIT_TEST(convolutions_follow_the_definition) {
  Random random(test::seed());
  size_t count = 0;
  const FloatGemmKernel* kernels = float_gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    const FloatGemmKernel& kernel = kernels[i];
    if (!test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
    for (int round = 0; round < 30; ++round) {
      const size_t groups = random.pick<size_t>({1, 1, 2, 3});
      Problem problem(random, groups, groups * random.size(1, 9), groups * random.size(1, 21),
                      random.one_in(3));
      std::vector<float> packed;
      std::string error;
      const auto op = make_float_conv(conv_params(problem, kernel, &packed),
                                      {kernel.isa, isa_info(kernel.isa).storage}, &error);
      EDGEKIT_CHECK(op != nullptr, error);
      if (op == nullptr) return;
      test::check_runs(random, *op, problem.output, problem.expected(), kernel.name);
      test::count_case(kernel.isa);
    }
  }
}

EDGEKIT_TEST(depthwise_convolutions_follow_the_definition) {
  Random random(test::seed());
  size_t count = 0;
  const FloatDepthwiseKernel* kernels = float_depthwise_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    const FloatDepthwiseKernel& kernel = kernels[i];
    if (!test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
    for (int round = 0; round < 30; ++round) {
      const size_t channels = random.size(1, 40);
      Problem problem(random, channels, channels, channels, random.one_in(3));
      std::vector<float> packed;
      std::string error;
      const auto op = make_float_depthwise(depthwise_params(problem, kernel, &packed),
                                           {kernel.isa, isa_info(kernel.isa).storage}, &error);
      EDGEKIT_CHECK(op != nullptr, error);
      if (op == nullptr) return;
      test::check_runs(random, *op, problem.output, problem.expected(), kernel.name);
      test::count_case(kernel.isa);
    }
  }
}

EDGEKIT_TEST(matrices_multiply_in_order) {
  Random random(test::seed());
  const FloatGemmKernel& kernel = select_float_gemm(Isa::kGeneric);
  for (int round = 0; round < 40; ++round) {
    const auto m = random.integer(1, 12);
    const auto k = random.integer(1, 9);
    const auto n = random.integer(1, 20);
    const int64_t batches = random.integer(1, 3);
    const bool transposed = random.one_in(2);
    const bool shared = random.one_in(2);
    OwnedTensor a("a", DType::kFloat32, {batches, m, k});
    OwnedTensor b("b", DType::kFloat32,
                  {shared ? 1 : batches, transposed ? n : k, transposed ? k : n});
    OwnedTensor y("y", DType::kFloat32, {batches, m, n});
    fill(random, a);
    fill(random, b);
    std::vector<float> expected;
    for (int64_t i = 0; i < batches * m; ++i) {
      const float* matrix = floats(b) + (shared ? 0 : i / m * k * n);
      for (int64_t c = 0; c < n; ++c) {
        float acc = 0;
        for (int64_t l = 0; l < k; ++l) {
          acc = std::fma(floats(a)[i * k + l], matrix[transposed ? c * k + l : l * n + c], acc);
        }
        expected.push_back(acc);
      }
    }
    std::string error;
    const auto op =
        make_float_matmul({a.view(), b.view(), y.view(), kernel.name, transposed}, kTarget, &error);
    EDGEKIT_CHECK(op != nullptr, error);
    if (op != nullptr) test::check_runs(random, *op, y, bytes_of(expected), "matmul");
  }
  OwnedTensor a("a", DType::kFloat32, {2, 3});
  OwnedTensor b("b", DType::kFloat32, {4, 5});
  OwnedTensor y("y", DType::kFloat32, {2, 5});
  std::string error;
  test::check_refused(
      make_float_matmul({a.view(), b.view(), y.view(), kernel.name, false}, kTarget, &error), error,
      "don't multiply");
  test::check_refused(
      make_float_matmul({a.view(), b.view(), y.view(), "gemm", false}, kTarget, &error), error,
      "don't multiply");
}

EDGEKIT_TEST(elementwise_operators_broadcast) {
  Random random(test::seed());
  OwnedTensor a("a", DType::kFloat32, {2, 3, 1, 5});
  OwnedTensor b("b", DType::kFloat32, {3, 4, 1});
  OwnedTensor y("y", DType::kFloat32, {2, 3, 4, 5});
  fill(random, a);
  fill(random, b);
  std::vector<float> expected;
  for (size_t i = 0; i < 120; ++i) {
    const float left = floats(a)[i / 20 * 5 + i % 5];
    expected.push_back(clip(left * floats(b)[i / 5 % 12], -0.5F, kInfinity));
  }
  std::string error;
  const FloatBinaryParams params = {
      FloatOperator::kMul, a.view(), b.view(), y.view(), -0.5F, kInfinity};
  const auto op = make_float_binary(params, kTarget, &error);
  EDGEKIT_CHECK(op != nullptr, error);
  if (op != nullptr) test::check_runs(random, *op, y, bytes_of(expected), "broadcast");
  FloatBinaryParams wrong = params;
  wrong.op = static_cast<FloatOperator>(17);
  test::check_refused(make_float_binary(wrong, kTarget, &error), error, "unknown");
  wrong = params;
  wrong.lo = std::numeric_limits<float>::quiet_NaN();
  test::check_refused(make_float_binary(wrong, kTarget, &error), error, "bounds");
  wrong = params;
  wrong.output = a.view();
  test::check_refused(make_float_binary(wrong, kTarget, &error), error, "broadcast");
  test::check_refused(
      make_float_unary({static_cast<FloatFunction>(99), a.view(), a.view(), 0, 0}, kTarget, &error),
      error, "unknown");
  test::check_refused(
      make_float_unary({FloatFunction::kExp, a.view(), y.view(), 0, 0}, kTarget, &error), error,
      "different shapes");
}

EDGEKIT_TEST(reductions_bring_any_neighbours_to_one) {
  Random random(test::seed());
  OwnedTensor x("x", DType::kFloat32, {2, 3, 4, 5});
  fill(random, x);
  for (uint32_t begin = 0; begin < 4; ++begin) {
    for (uint32_t end = begin; end <= 4; ++end) {
      const size_t outer = element_count(x.view().shape, 0, begin);
      const size_t n = element_count(x.view().shape, begin, end);
      const size_t inner = element_count(x.view().shape, end, 4);
      OwnedTensor y("y", DType::kFloat32, {static_cast<int64_t>(outer * inner)});
      std::vector<float> expected;
      for (size_t i = 0; i < outer * inner; ++i) {
        float most = -kInfinity;
        for (size_t l = 0; l < n; ++l) {
          most = std::max(most, floats(x)[(i / inner * n + l) * inner + i % inner]);
        }
        expected.push_back(most);
      }
      std::string error;
      const auto op = make_float_reduce({FloatReduction::kMax, x.view(), y.view(), begin, end},
                                        kTarget, &error);
      EDGEKIT_CHECK(op != nullptr, error);
      if (op != nullptr) test::check_runs(random, *op, y, bytes_of(expected), "maximum");
      test::check_refused(
          make_float_reduce({FloatReduction::kMax, x.view(), y.view(), end + 1, end}, kTarget,
                            &error),
          error, "does not reduce");
    }
  }
}

EDGEKIT_TEST(resizing_stays_inside_the_image) {
  Random random(test::seed());
  OwnedTensor x("x", DType::kFloat32, {1, 2, 2, 3});
  OwnedTensor y("y", DType::kFloat32, {1, 3, 2, 3});
  fill(random, x);
  std::vector<int32_t> rows = {0, 0, 0, 1, 1, 1};
  std::vector<int32_t> columns = {1, 1, 0, 0};
  std::vector<float> row_weights = {0, 0.25F, 0};
  std::vector<float> column_weights = {0, 0};
  const auto params = [&] {
    return FloatResizeParams{x.view(),
                             y.view(),
                             blob_of(rows),
                             blob_of(columns),
                             blob_of(row_weights),
                             blob_of(column_weights)};
  };
  std::vector<float> expected;
  for (size_t i = 0; i < 3; ++i) {
    for (size_t j = 0; j < 2; ++j) {
      for (size_t c = 0; c < 3; ++c) {
        const auto at = [&](size_t row) { return floats(x)[row * 6 + (1 - j) * 3 + c]; };
        expected.push_back(i == 0 ? at(0) : i == 2 ? at(1) : 0.75F * at(0) + 0.25F * at(1));
      }
    }
  }
  std::string error;
  const auto op = make_float_resize(params(), kTarget, &error);
  EDGEKIT_CHECK(op != nullptr, error);
  if (op != nullptr) test::check_runs(random, *op, y, bytes_of(expected), "resize");
  rows[1] = 2;
  test::check_refused(make_float_resize(params(), kTarget, &error), error, "outside");
  rows[1] = -1;
  test::check_refused(make_float_resize(params(), kTarget, &error), error, "outside");
  rows[1] = 0;
  row_weights[1] = std::numeric_limits<float>::quiet_NaN();
  test::check_refused(make_float_resize(params(), kTarget, &error), error, "outside");
  row_weights.pop_back();
  test::check_refused(make_float_resize(params(), kTarget, &error), error, "weights");
}

EDGEKIT_TEST(norms_need_constants_of_their_row) {
  OwnedTensor x("x", DType::kFloat32, {2, 3, 4});
  std::string error;
  std::vector<float> constants(12, 1.0F);
  FloatLayerNormParams params{x.view(), x.view(), blob_of(constants), blob_of(constants), 1e-5F};
  EDGEKIT_CHECK(make_float_layer_norm(params, kTarget, &error) != nullptr, error);
  params.epsilon = -1;
  test::check_refused(make_float_layer_norm(params, kTarget, &error), error, "negative");
  params.epsilon = 0;
  constants.resize(5);
  params.scale = params.bias = blob_of(constants);
  test::check_refused(make_float_layer_norm(params, kTarget, &error), error, "last dimensions");
  OwnedTensor codes("codes", DType::kCode, {2, 3, 4});
  test::check_refused(make_float_softmax({codes.view(), x.view()}, kTarget, &error), error,
                      "float32");
}

/// A product of int8 weights with float32 rows, and what it gives, computed by the definition.
struct DynamicProblem {
  DynamicProblem(Random& random, const PlanTarget& target, size_t rows, size_t inner, size_t outer)
      : m(rows),
        k(inner),
        n(outer),
        kernel(&select_gemm(target.isa, target.storage, m, n, k, 1, false)),
        input("input", DType::kFloat32, {static_cast<int64_t>(m), static_cast<int64_t>(k)}),
        output("output", DType::kFloat32, {static_cast<int64_t>(m), static_cast<int64_t>(n)}),
        plain(n * k),
        packed(packed_gemm_size(*kernel, n, k, 1)),
        correction(n),
        multiplier(n),
        bias(n) {
    fill(random, input);
    for (int8_t& w : plain) w = static_cast<int8_t>(random.integer(-127, 127));
    pack_gemm(*kernel, plain.data(), n, k, 1, packed.data());
    for (size_t c = 0; c < n; ++c) {
      for (size_t i = 0; i < k; ++i) {
        correction[c] -= storage_offset(target.storage) * plain[c * k + i];
      }
    }
    test::fill_floats(random, multiplier.data(), n);
    test::fill_floats(random, bias.data(), n);
    params = {input.view(),        output.view(),       kernel->name, blob_of(packed),
              blob_of(correction), blob_of(multiplier), blob_of(bias)};
  }

  std::vector<uint8_t> expected() {
    std::vector<float> y(m * n);
    for (size_t r = 0; r < m; ++r) {
      const float* x = floats(input) + r * k;
      float scale = 0;
      for (size_t i = 0; i < k; ++i) scale = std::max(scale, std::fabs(x[i]));
      scale = scale / 127.0F;
      for (size_t c = 0; c < n; ++c) {
        int32_t sum = 0;
        for (size_t i = 0; i < k; ++i) {
          const float ratio = x[i] / scale;
          const float code = std::isnan(ratio) ? -127.0F : std::nearbyint(clip(ratio, -127, 127));
          sum += static_cast<int32_t>(code) * plain[c * k + i];
        }
        const float product = static_cast<float>(sum) * multiplier[c];
        const float scaled = product * scale;
        y[r * n + c] = scaled + bias[c];
      }
    }
    return bytes_of(y);
  }

  size_t m;
  size_t k;
  size_t n;
  const GemmKernel* kernel;
  OwnedTensor input;
  OwnedTensor output;
  std::vector<int8_t> plain;
  std::vector<int8_t> packed;
  std::vector<int32_t> correction;
  std::vector<float> multiplier;
  std::vector<float> bias;
  DynamicFullyConnectedParams params;
};

EDGEKIT_TEST(dynamic_products_follow_their_definition) {
  Random random(test::seed());
  for (const Storage storage : {Storage::kS8, Storage::kU8}) {
    const PlanTarget target = {Isa::kGeneric, storage};
    for (const size_t m : {1u, 5u, 131u, 300u}) {
      DynamicProblem problem(random, target, m, random.size(1, 70), random.size(1, 40));
      if (m == 5) std::fill_n(floats(problem.input), problem.k, 0.0F);
      std::string error;
      const auto op = make_dynamic_fully_connected(problem.params, target, &error);
      EDGEKIT_CHECK(op != nullptr, error);
      if (op != nullptr) {
        test::check_runs(random, *op, problem.output, problem.expected(), "dynamic product");
      }
    }
  }
}

EDGEKIT_TEST(dynamic_products_refuse_what_does_not_fit) {
  Random random(test::seed());
  DynamicProblem problem(random, kTarget, 4, 24, 9);
  std::string error;
  const auto refuses = [&](const DynamicFullyConnectedParams& params, const char* reason) {
    test::check_refused(make_dynamic_fully_connected(params, kTarget, &error), error, reason);
  };
  DynamicFullyConnectedParams params = problem.params;
  params.kernel = "none";
  refuses(params, "unknown");
  params = problem.params;
  params.weights.size -= 64;
  refuses(params, "the weights hold");
  params = problem.params;
  params.bias.size -= 4;
  refuses(params, "the bias");
  params = problem.params;
  params.multiplier.size -= 4;
  refuses(params, "the multiplier");
  params = problem.params;
  params.correction.size += 4;
  refuses(params, "the bias");
  params = problem.params;
  params.input.shape.dims[0] = 3;
  refuses(params, "different numbers of rows");
  params = problem.params;
  params.output.shape.rank = 0;
  refuses(params, "different numbers of rows");
  params = problem.params;
  params.input.dtype = DType::kCode;
  refuses(params, "float32");
  params = problem.params;
  params.output = params.input;
  refuses(params, "overlap");
  problem.correction[3] = std::numeric_limits<int32_t>::max();
  refuses(problem.params, "may leave int32");
  problem.correction[3] = 0;
  problem.multiplier[2] = kInfinity;
  refuses(problem.params, "not a number");
}

EDGEKIT_TEST(changed_parameters_stay_within_memory) {
  Random random(test::seed());
  const FloatGemmKernel& gemm = select_float_gemm(Isa::kGeneric);
  const FloatDepthwiseKernel& depthwise = select_float_depthwise(Isa::kGeneric);
  int made = 0;
  int refused = 0;
  constexpr int kCases = 1500;
  for (int i = 0; i < kCases; ++i) {
    Problem problem(random, 4, 4, 4, random.one_in(2));
    std::vector<float> packed;
    std::vector<float> packed_depthwise;
    FloatConvParams conv = conv_params(problem, gemm, &packed);
    FloatDepthwiseParams filter = depthwise_params(problem, depthwise, &packed_depthwise);
    FloatPoolParams pool;
    pool.input = conv.input;
    pool.output = conv.output;
    Window* window = &conv.window;
    uint32_t* numbers[] = {&window->kernel_h,  &window->kernel_w,   &window->stride_h,
                           &window->stride_w,  &window->dilation_h, &window->dilation_w,
                           &window->pad_top,   &window->pad_left,   &window->pad_bottom,
                           &window->pad_right, &conv.groups};
    for (size_t changes = random.size(0, 2); changes-- > 0;) {
      uint32_t* number = numbers[random.size(0, 10)];
      *number = random.one_in(2) ? *number + (random.one_in(2) ? 1 : ~0u)
                                 : random.pick<uint32_t>({0, 2, 65536, 0x7FFFFFFF, 0xFFFFFFFF});
    }
    if (random.one_in(3)) {
      int64_t& dim = conv.input.shape.dims[random.size(0, 3)];
      if (dim > 1) dim = random.integer(1, dim);
    }
    filter.window = pool.window = conv.window;
    filter.input = pool.input = conv.input;
    std::string error;
    const std::unique_ptr<Op> ops[] = {make_float_conv(conv, kTarget, &error),
                                       make_float_depthwise(filter, kTarget, &error),
                                       make_float_pool(pool, kTarget, &error)};
    for (const std::unique_ptr<Op>& op : ops) {
      if (op == nullptr) {
        ++refused;
      } else {
        test::run_in_pieces(random, *op);
        ++made;
      }
    }
  }
  EDGEKIT_CHECK(made > kCases / 10 && refused > kCases / 10,
                std::to_string(made) + " made, " + std::to_string(refused) + " refused");
}

}  // namespace edgekit
