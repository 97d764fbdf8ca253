// Times every GEMM kernel that runs here on layers of real networks, on one thread.
//
// All kernels take turns within one run, so that a slow minute of the machine hits all of them;
// what is printed is the median of each, in 10^9 operations a second (2 * m * n * k, over the time
// of the calling thread), requantizing and storing included. Compare columns of one run with each
// other, not runs.

#include "kernels/gemm/gemm.h"

#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

namespace edgekit {
namespace {

constexpr int kRounds = 25;
constexpr double kSecondsPerSample = 1e-3;
constexpr size_t kReadBehind = 64;

struct Shape {
  size_t m;
  size_t k;
  size_t n;
};

constexpr Shape kShapes[] = {
    {3136, 24, 144}, {3136, 64, 64},  {784, 40, 240},  {784, 256, 256}, {196, 512, 512},
    {49, 192, 1152}, {128, 768, 768}, {1, 1024, 1024}, {512, 512, 512}, {1024, 1024, 1024},
};

double thread_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// One kernel with memory of its own for one shape.
class Contestant {
 public:
  Contestant(const GemmKernel& kernel, const Shape& shape) : kernel_(kernel), shape_(shape) {
    std::minstd_rand random(1);
    // Small enough for neighbours along k to fit in 16 bits, which some kernels require.
    std::uniform_int_distribution<int> weight(-64, 64);
    std::vector<int8_t> w(shape.n * shape.k);
    for (int8_t& value : w) value = static_cast<int8_t>(weight(random));
    packed_.resize(packed_gemm_size(kernel, shape.n, shape.k, 1));
    pack_gemm(kernel, w.data(), shape.n, shape.k, 1, packed_.data());
    a_.resize(shape.m * shape.k + kReadBehind);
    for (uint8_t& value : a_) value = static_cast<uint8_t>(random());
    y_.resize(shape.m * shape.n);
    const size_t padded = (shape.n + kernel.nr - 1) / kernel.nr * kernel.nr;
    bias_.resize(padded);
    scale_.assign(padded, 1e-4F);
    args_.m = shape.m;
    args_.n = shape.n;
    args_.k = shape.k;
    args_.taps = 1;
    args_.a = a_.data();
    args_.a_stride = shape.k;
    args_.w = packed_.data();
    args_.bias = bias_.data();
    args_.requantize.scale = scale_.data();
    args_.requantize.lo = -128;
    args_.requantize.hi = 127;
    args_.requantize.zero_point = storage_offset(kernel.storage);
    args_.output = Output::kCodes;
    args_.y = y_.data();
    args_.y_stride = shape.n;
    const double once = time(1);
    runs_ = static_cast<int>(std::max(1.0, kSecondsPerSample / std::max(once, 1e-7)));
  }

  void sample() { seconds_.push_back(time(runs_) / runs_); }

  double gops() {
    std::sort(seconds_.begin(), seconds_.end());
    const double operations = 2.0 * static_cast<double>(shape_.m * shape_.n * shape_.k);
    return operations / seconds_[seconds_.size() / 2] * 1e-9;
  }

 private:
  double time(int runs) const {
    const double start = thread_seconds();
    for (int i = 0; i < runs; ++i) kernel_.run(args_);
    return thread_seconds() - start;
  }

  const GemmKernel& kernel_;
  Shape shape_;
  GemmArgs args_{};
  std::vector<int8_t> packed_;
  std::vector<uint8_t> a_;
  std::vector<uint8_t> y_;
  std::vector<int32_t> bias_;
  std::vector<float> scale_;
  std::vector<double> seconds_;
  int runs_;
};

void run_shape(const Shape& shape) {
  std::vector<Contestant> contestants;
  std::vector<const GemmKernel*> kernels;
  size_t count;
  const GemmKernel* table = gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    if (table[i].run == nullptr || !isa_supported(table[i].isa)) continue;
    kernels.push_back(&table[i]);
    contestants.emplace_back(table[i], shape);
  }
  for (int round = 0; round < kRounds; ++round) {
    for (Contestant& contestant : contestants) contestant.sample();
  }
  std::printf("\n%zu x %zu x %zu (m x k x n)\n", shape.m, shape.k, shape.n);
  for (size_t i = 0; i < kernels.size(); ++i) {
    std::printf("  %-40s %8.1f GOPS\n", kernels[i]->name, contestants[i].gops());
  }
}

}  // namespace
}  // namespace edgekit

int main() {
  for (const edgekit::Shape& shape : edgekit::kShapes) edgekit::run_shape(shape);
}
