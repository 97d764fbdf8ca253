// Times every depthwise kernel that runs here, on one thread, beside the peak of its instruction
// set.
//
//   edgekit_depthwise_benchmark [KERNEL | HxWxC]...
//
// KERNEL is a part of a name: only kernels that hold one are timed. HxWxC replaces the input sizes,
// which are those of EfficientNet-Lite0 and its like. Each is convolved with 3x3 and 5x5, stride 1
// and 2, and padded by half the window. Kernels and peaks take turns within one run; what is
// printed is the median of each in 10^9 multiplies and adds a second (of the window's taps, without
// the zeros that fill an instruction; over the time of the calling thread), requantizing and
// storing included. Compare figures of one run with each other, not runs.

#include "kernels/depthwise/depthwise.h"

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

/// Output rows of one call, as in a session.
constexpr size_t kBlockRows = 8;

struct Image {
  size_t h;
  size_t w;
  size_t channels;
};

constexpr Image kImages[] = {
    {112, 112, 96}, {56, 56, 144}, {28, 28, 240}, {14, 14, 672}, {7, 7, 1152},
};

struct Window {
  size_t size;
  size_t stride;
};

constexpr Window kWindows[] = {{3, 1}, {3, 2}, {5, 1}, {5, 2}};

/// One kernel with memory of its own for one image and window.
class Contestant {
 public:
  Contestant(const DepthwiseKernel& kernel, const Image& image, const Window& window)
      : kernel_(kernel), out_h_((image.h - 1) / window.stride + 1) {
    const size_t taps = window.size * window.size;
    std::minstd_rand random(1);
    std::vector<int8_t> w(image.channels * taps);
    for (int8_t& value : w) value = static_cast<int8_t>(random() % 255 - 127);
    packed_.resize(packed_depthwise_size(kernel, image.channels, window.size, window.size) +
                   kAlignment);
    pack_depthwise(kernel, w.data(), image.channels, window.size, window.size, aligned(packed_));
    const size_t row_size = image.w * image.channels;
    x_.resize(image.h * row_size + kReadBehind + kAlignment);
    for (uint8_t& value : x_) value = static_cast<uint8_t>(random());
    zero_.assign(row_size + kReadBehind, static_cast<uint8_t>(storage_offset(kernel.storage)));
    const size_t padding = window.size / 2;
    for (size_t i = 0; i < image.h + 2 * padding; ++i) {
      const bool inside = i >= padding && i < image.h + padding;
      rows_.push_back(inside ? aligned(x_) + (i - padding) * row_size : zero_.data());
    }
    const size_t padded = (image.channels + kernel.cr - 1) / kernel.cr * kernel.cr;
    bias_.resize(padded);
    scale_.assign(padded, 1e-3F);
    args_.channels = image.channels;
    args_.in_width = image.w;
    args_.out_width = (image.w - 1) / window.stride + 1;
    args_.kernel_h = args_.kernel_w = window.size;
    args_.stride_h = args_.stride_w = window.stride;
    args_.dilation_h = args_.dilation_w = 1;
    args_.pad_left = padding;
    args_.zero = zero_.data();
    args_.w = aligned(packed_);
    args_.bias = bias_.data();
    args_.requantize.scale = scale_.data();
    // As behind a Relu.
    args_.requantize.lo = 0;
    args_.requantize.hi = 255;
    args_.requantize.zero_point = storage_offset(kernel.storage) - 128;
    args_.y_stride = args_.out_width * image.channels;
    y_.resize(out_h_ * args_.y_stride + kAlignment);
    operations_ = 2.0 * static_cast<double>(out_h_ * args_.y_stride * taps);
    sampler_ = std::make_unique<Sampler>([this] { run(); });
  }

  const DepthwiseKernel& kernel() const { return kernel_; }
  double cost() const { return sampler_->cost(); }
  void sample() {
    sampler_->sample([this] { run(); });
  }
  double gops() const { return operations_ / sampler_->median() * 1e-9; }
  double microseconds() const { return sampler_->median() * 1e6; }

 private:
  void run() {
    DepthwiseArgs args = args_;
    for (size_t i = 0; i < out_h_; i += args.out_rows) {
      args.out_rows = out_h_ - i < kBlockRows ? out_h_ - i : kBlockRows;
      args.rows = rows_.data() + i * args.stride_h;
      args.y = aligned(y_) + i * args.y_stride;
      kernel_.run(args);
    }
  }

  const DepthwiseKernel& kernel_;
  size_t out_h_;
  DepthwiseArgs args_{};
  std::vector<int8_t> packed_;
  std::vector<uint8_t> x_;
  std::vector<uint8_t> y_;
  std::vector<uint8_t> zero_;
  std::vector<const uint8_t*> rows_;
  std::vector<int32_t> bias_;
  std::vector<float> scale_;
  double operations_ = 0;
  std::unique_ptr<Sampler> sampler_;
};

void run_problem(const Image& image, const Window& window,
                 const std::vector<const DepthwiseKernel*>& kernels) {
  std::vector<std::unique_ptr<Contestant>> contestants;
  TimedPeaks peaks;
  double cost = 0;
  for (const DepthwiseKernel* kernel : kernels) {
    contestants.push_back(std::make_unique<Contestant>(*kernel, image, window));
    cost += contestants.back()->cost();
    peaks.add(kernel->isa);
  }
  for (int round = rounds(cost); round > 0; --round) {
    peaks.sample();
    for (const auto& contestant : contestants) contestant->sample();
  }
  std::printf("\n%zux%zux%zu, window %zux%zu, stride %zu\n", image.h, image.w, image.channels,
              window.size, window.size, window.stride);
  for (const auto& contestant : contestants) {
    const double gops = contestant->gops();
    std::printf("  %-40s %10.1f us %8.1f GMAC/s", contestant->kernel().name,
                contestant->microseconds(), gops / 2);
    peaks.print_share(contestant->kernel().isa, gops);
    std::printf("\n");
  }
}

int main_of_benchmark(int argc, char** argv) {
  std::vector<Image> images;
  std::vector<const char*> parts;
  for (int i = 1; i < argc; ++i) {
    Image image;
    char behind;
    if (std::sscanf(argv[i], "%zux%zux%zu%c", &image.h, &image.w, &image.channels, &behind) != 3) {
      parts.push_back(argv[i]);
    } else if (image.h == 0 || image.w == 0 || image.channels == 0) {
      std::fprintf(stderr, "%s is empty\n", argv[i]);
      return 2;
    } else {
      images.push_back(image);
    }
  }
  const std::vector<const DepthwiseKernel*> kernels = find_kernels(depthwise_kernels, parts);
  if (kernels.empty()) {
    std::fprintf(stderr, "no depthwise kernel with such a name runs here\n");
    return 2;
  }
  if (images.empty()) images.assign(std::begin(kImages), std::end(kImages));
  for (const Image& image : images) {
    for (const Window& window : kWindows) run_problem(image, window, kernels);
  }
  return 0;
}

}  // namespace
}  // namespace edgekit::benchmark

int main(int argc, char** argv) { return edgekit::benchmark::main_of_benchmark(argc, argv); }
