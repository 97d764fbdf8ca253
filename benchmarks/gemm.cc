// Times every GEMM kernel that runs here, on one thread, beside the peak of its instruction set.
//
//   edgekit_gemm_benchmark [KERNEL | MxKxN]...
//
// KERNEL is a part of a name: only kernels that hold one are timed. MxKxN replaces the shapes,
// which are layers of real networks. Kernels and peaks take turns within one run; what is printed
// is the median of each in 10^9 operations a second (2 * m * n * k, over the time of the calling
// thread), requantizing and storing included, of calls behind another on the same memory. Compare
// figures of one run with each other, not runs.

#include "kernels/gemm/gemm.h"

#include <cstdint>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include "contest.h"
#include "sampler.h"

namespace edgekit::benchmark {
namespace {

constexpr size_t kReadBehind = 64;

struct Shape {
  size_t m;
  size_t k;
  size_t n;
};

constexpr Shape kShapes[] = {
    {1, 1024, 1024}, {16, 768, 768},     {128, 768, 768},    {128, 768, 3072}, {196, 512, 512},
    {784, 256, 256}, {3136, 64, 64},     {3136, 24, 144},    {784, 40, 240},   {49, 192, 1152},
    {512, 512, 512}, {1024, 1024, 1024}, {2048, 2048, 2048},
};

/// One kernel with memory of its own for one shape.
class Contestant {
 public:
  Contestant(const GemmKernel& kernel, const Shape& shape) : kernel_(kernel), shape_(shape) {
    std::minstd_rand random(1);
    // Small enough for neighbours along k to fit in 16 bits, which some kernels require.
    const int most = kernel.bits == 4 ? 7 : 64;
    std::uniform_int_distribution<int> weight(-most, most);
    std::vector<int8_t> w(shape.n * shape.k);
    for (int8_t& value : w) value = static_cast<int8_t>(weight(random));
    packed_.resize(packed_gemm_size(kernel, shape.n, shape.k, 1) + kAlignment);
    pack_gemm(kernel, w.data(), shape.n, shape.k, 1, aligned(packed_));
    a_.resize(shape.m * shape.k + kReadBehind + kAlignment);
    for (uint8_t& value : a_) value = static_cast<uint8_t>(random());
    y_.resize(shape.m * shape.n + kAlignment);
    const size_t padded = (shape.n + kernel.nr - 1) / kernel.nr * kernel.nr;
    bias_.resize(padded);
    scale_.assign(padded, 1e-4F);
    args_.m = shape.m;
    args_.n = shape.n;
    args_.k = shape.k;
    args_.taps = 1;
    args_.a = aligned(a_);
    args_.a_stride = shape.k;
    args_.w = aligned(packed_);
    args_.bias = bias_.data();
    args_.requantize.scale = scale_.data();
    args_.requantize.lo = -128;
    args_.requantize.hi = 127;
    args_.requantize.zero_point = storage_offset(kernel.storage);
    args_.output = Output::kCodes;
    args_.y = aligned(y_);
    args_.y_stride = shape.n;
    sampler_ = std::make_unique<Sampler>([this] { kernel_.run(args_); });
  }

  const GemmKernel& kernel() const { return kernel_; }
  double cost() const { return sampler_->cost(); }
  void sample() {
    sampler_->sample([this] { kernel_.run(args_); });
  }

  double gops() const {
    const double operations = 2.0 * static_cast<double>(shape_.m * shape_.n * shape_.k);
    return operations / sampler_->median() * 1e-9;
  }

  double microseconds() const { return sampler_->median() * 1e6; }

 private:
  const GemmKernel& kernel_;
  Shape shape_;
  GemmArgs args_{};
  std::vector<int8_t> packed_;
  std::vector<uint8_t> a_;
  std::vector<uint8_t> y_;
  std::vector<int32_t> bias_;
  std::vector<float> scale_;
  std::unique_ptr<Sampler> sampler_;
};

void run_shape(const Shape& shape, const std::vector<const GemmKernel*>& kernels) {
  std::vector<std::unique_ptr<Contestant>> contestants;
  TimedPeaks peaks;
  double cost = 0;
  for (const GemmKernel* kernel : kernels) {
    contestants.push_back(std::make_unique<Contestant>(*kernel, shape));
    cost += contestants.back()->cost();
    peaks.add(kernel->isa);
  }
  for (int round = rounds(cost); round > 0; --round) {
    peaks.sample();
    for (const auto& contestant : contestants) contestant->sample();
  }
  std::printf("\n%zu x %zu x %zu (m x k x n)\n", shape.m, shape.k, shape.n);
  for (const auto& contestant : contestants) {
    const double gops = contestant->gops();
    std::printf("  %-40s %10.1f us %8.1f GOPS", contestant->kernel().name,
                contestant->microseconds(), gops);
    peaks.print_share(contestant->kernel().isa, gops);
    std::printf("\n");
  }
}

int main_of_benchmark(int argc, char** argv) {
  std::vector<Shape> shapes;
  std::vector<const char*> parts;
  for (int i = 1; i < argc; ++i) {
    Shape shape;
    char behind;
    if (std::sscanf(argv[i], "%zux%zux%zu%c", &shape.m, &shape.k, &shape.n, &behind) != 3) {
      parts.push_back(argv[i]);
    } else if (shape.m == 0 || shape.n == 0) {
      std::fprintf(stderr, "%s has nothing to compute: m and n are at least 1\n", argv[i]);
      return 2;
    } else {
      shapes.push_back(shape);
    }
  }
  const std::vector<const GemmKernel*> kernels = find_kernels(gemm_kernels, parts);
  if (kernels.empty()) {
    std::fprintf(stderr, "no GEMM kernel with such a name runs here\n");
    return 2;
  }
  if (shapes.empty()) shapes.assign(std::begin(kShapes), std::end(kShapes));
  for (const Shape& shape : shapes) run_shape(shape, kernels);
  return 0;
}

}  // namespace
}  // namespace edgekit::benchmark

int main(int argc, char** argv) { return edgekit::benchmark::main_of_benchmark(argc, argv); }
