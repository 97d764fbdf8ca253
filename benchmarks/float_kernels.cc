// Times every float32 GEMM and depthwise kernel that runs here on layers of real networks, on one
// thread.
//
// All kernels take turns within one run, so that a slow minute of the machine hits all of them;
// what is printed is the median of each, in 10^9 operations a second (a multiply and an addition
// count as two). Compare columns of one run with each other, not runs. benchmarks/float_contest.py
// compares whole operators with ONNX Runtime's.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <random>
#include <vector>

#include "kernels/float_depthwise/float_depthwise.h"
#include "kernels/float_gemm/float_gemm.h"
#include "sampler.h"

namespace edgekit::benchmark {
namespace {

struct GemmShape {
  size_t m, k, n;
};

constexpr GemmShape kGemmShapes[] = {
    {12544, 32, 16}, {3136, 24, 144}, {784, 40, 240},     {196, 480, 112},
    {196, 672, 112}, {49, 1152, 192}, {49, 320, 1280},    {1, 1280, 1000},
    {128, 768, 768}, {512, 512, 512}, {1024, 1024, 1024},
};

struct DepthwiseShape {
  size_t size, channels, kernel, stride;
};

constexpr DepthwiseShape kDepthwiseShapes[] = {
    {112, 32, 3, 1}, {112, 96, 3, 2}, {56, 144, 3, 1}, {56, 144, 5, 2},
    {28, 240, 5, 1}, {28, 240, 3, 2}, {14, 480, 3, 1}, {14, 672, 5, 1},
    {14, 672, 5, 2}, {7, 1152, 5, 1}, {7, 1152, 3, 1},
};

/// Floats that begin at a multiple of 64, as arenas and constants do.
class Floats {
 public:
  explicit Floats(size_t count) : storage_(count + 16) {
    const auto address = reinterpret_cast<uintptr_t>(storage_.data());
    data_ = storage_.data() + (64 - address % 64) % 64 / sizeof(float);
  }

  float* data() { return data_; }

 private:
  std::vector<float> storage_;
  float* data_;
};

Floats random_floats(size_t count) {
  std::minstd_rand random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  Floats values(count);
  for (size_t i = 0; i < count; ++i) values.data()[i] = uniform(random);
  return values;
}

/// Prints the row of one shape: a column for each call, in 10^9 operations a second.
void contest(const char* shape, double operations,
             const std::vector<std::function<void()>>& calls) {
  std::vector<Sampler> samplers;
  double cost = 0;
  for (const auto& call : calls) {
    samplers.emplace_back(call);
    cost += samplers.back().cost();
  }
  for (int round = rounds(cost); round > 0; --round) {
    for (size_t i = 0; i < calls.size(); ++i) samplers[i].sample(calls[i]);
  }
  std::printf("%-22s", shape);
  for (const Sampler& sampler : samplers) {
    std::printf(" %12.1f", operations / sampler.median() * 1e-9);
  }
  std::printf("\n");
  std::fflush(stdout);
}

template <class Kernel>
std::vector<const Kernel*> runnable(const Kernel* kernels, size_t count) {
  std::vector<const Kernel*> chosen;
  std::printf("%-22s", "GOPS");
  for (size_t i = 0; i < count; ++i) {
    if (kernels[i].isa == Isa::kGeneric || kernels[i].run == nullptr ||
        !isa_supported(kernels[i].isa)) {
      continue;
    }
    chosen.push_back(&kernels[i]);
    std::printf(" %s", kernels[i].name);
  }
  std::printf("\n");
  return chosen;
}

void time_gemm() {
  size_t count = 0;
  const FloatGemmKernel* all = float_gemm_kernels(&count);
  const auto kernels = runnable(all, count);
  for (const GemmShape& shape : kGemmShapes) {
    Floats a = random_floats(shape.m * shape.k);
    Floats w = random_floats(shape.n * shape.k);
    Floats bias(shape.n + 64);
    Floats y(shape.m * shape.n);
    std::vector<Floats> packed;
    std::vector<std::function<void()>> calls;
    for (const FloatGemmKernel* kernel : kernels) {
      packed.emplace_back(packed_float_gemm_size(*kernel, shape.n, shape.k, 1));
      pack_float_gemm(*kernel, w.data(), shape.k, 1, shape.n, shape.k, 1, packed.back().data());
      FloatGemmArgs args{};
      args.m = shape.m;
      args.n = shape.n;
      args.k = shape.k;
      args.taps = 1;
      args.a = a.data();
      args.a_stride = shape.k * sizeof(float);
      args.w = packed.back().data();
      args.bias = bias.data();
      args.lo = 0;
      args.hi = 6;
      args.y = y.data();
      args.y_stride = shape.n * sizeof(float);
      calls.emplace_back([args, kernel] { kernel->run(args); });
    }
    char name[64];
    std::snprintf(name, sizeof name, "%zux%zux%zu", shape.m, shape.k, shape.n);
    contest(name, 2.0 * static_cast<double>(shape.m * shape.k * shape.n), calls);
  }
}

void time_depthwise() {
  size_t count = 0;
  const FloatDepthwiseKernel* all = float_depthwise_kernels(&count);
  const auto kernels = runnable(all, count);
  for (const DepthwiseShape& shape : kDepthwiseShapes) {
    const size_t pad = shape.kernel / 2;
    const size_t out = (shape.size + 2 * pad - shape.kernel) / shape.stride + 1;
    const size_t row = shape.size * shape.channels;
    Floats x = random_floats(shape.size * row);
    Floats w = random_floats(shape.channels * shape.kernel * shape.kernel);
    Floats zero(row);
    Floats bias(shape.channels + 64);
    Floats y(out * out * shape.channels);
    std::vector<const float*> rows(shape.size + 2 * pad, zero.data());
    for (size_t i = 0; i < shape.size; ++i) rows[pad + i] = x.data() + i * row;
    std::vector<Floats> packed;
    std::vector<std::function<void()>> calls;
    for (const FloatDepthwiseKernel* kernel : kernels) {
      packed.emplace_back(
          packed_float_depthwise_size(*kernel, shape.channels, shape.kernel, shape.kernel));
      pack_float_depthwise(*kernel, w.data(), shape.channels, shape.kernel, shape.kernel,
                           packed.back().data());
      FloatDepthwiseArgs args{};
      args.channels = shape.channels;
      args.in_width = shape.size;
      args.out_width = out;
      args.kernel_h = args.kernel_w = shape.kernel;
      args.stride_h = args.stride_w = shape.stride;
      args.dilation_h = args.dilation_w = 1;
      args.pad_left = pad;
      args.zero = zero.data();
      args.w = packed.back().data();
      args.bias = bias.data();
      args.lo = 0;
      args.hi = 6;
      args.y_stride = out * shape.channels * sizeof(float);
      calls.emplace_back([args, kernel, &rows, &y, out, &shape]() mutable {
        // As the operator calls it: some rows at a time.
        constexpr size_t kRows = 8;
        for (size_t i = 0; i < out; i += kRows) {
          args.out_rows = std::min(kRows, out - i);
          args.rows = rows.data() + i * shape.stride;
          args.y = y.data() + i * out * shape.channels;
          kernel->run(args);
        }
      });
    }
    char name[64];
    std::snprintf(name, sizeof name, "%zux%zux%zu %zux%zu/%zu", shape.size, shape.size,
                  shape.channels, shape.kernel, shape.kernel, shape.stride);
    contest(name,
            2.0 * static_cast<double>(out * out * shape.channels * shape.kernel * shape.kernel),
            calls);
  }
}

}  // namespace
}  // namespace edgekit::benchmark

int main() {
  edgekit::benchmark::time_gemm();
  edgekit::benchmark::time_depthwise();
  return 0;
}
