// Calls the kernel that an instruction set has for a problem some times, so that a counter of
// instructions sees what a call takes: the count of two calls less that of one.
//
//   edgekit_call_kernel ISA gemm MxKxN TIMES
//   edgekit_call_kernel ISA sparse MxKxN KEPT TIMES                   KEPT of 100 blocks hold
//   weights edgekit_call_kernel ISA depthwise HxWxC KERNEL STRIDE TIMES       the output's height
//   and width
//
// Weights are pseudorandom and bell-shaped, as trained ones are: kernels may count on what they
// prove of them. Codes take the whole range with zero point -128, as behind a ReLU.

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "fused_constants.h"
#include "kernels/depthwise/depthwise.h"
#include "kernels/gemm/gemm.h"
#include "kernels/sparse_gemm/sparse_gemm.h"

namespace edgekit {
namespace {

constexpr size_t kReadable = 64;

/// Numerical Recipes' linear congruential generator.
class Generator {
 public:
  uint32_t next() { return state_ = state_ * 1664525u + 1013904223u; }

  /// Returns a sum of twelve uniform numbers: a weight with a standard deviation near 37.
  int8_t weight() {
    int sum = 0;
    for (int i = 0; i < 12; ++i) sum += static_cast<int>(next() >> 24);
    const int value = (sum - 12 * 128) / 7;
    return static_cast<int8_t>(value < -127 ? -127 : value > 127 ? 127 : value);
  }

 private:
  uint32_t state_ = 1;
};

std::vector<int8_t> make_weights(size_t size) {
  Generator generator;
  std::vector<int8_t> w(size);
  for (int8_t& value : w) value = generator.weight();
  return w;
}

std::vector<uint8_t> make_codes(size_t size) {
  Generator generator;
  std::vector<uint8_t> codes(size + kReadable);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(generator.next() >> 24);
  return codes;
}

/// The constants behind the accumulators of `channels` channels, sums of `depth` products.
struct Constants {
  Constants(Storage storage, size_t channels, size_t depth)
      : bias(channels + 64), scale(channels + 64, 1e-3f) {
    requantize.scale = scale.data();
    requantize.zero_point = storage_offset(storage) - 128;
    requantize.lo = 0;
    requantize.hi = 255;
    requantize.products_fit_16 =
        products_fit_16(bias.data(), scale.data(), channels,
                        static_cast<int64_t>(depth) * largest_product(storage));
  }

  std::vector<int32_t> bias;
  std::vector<float> scale;
  Requantize requantize = {};
};

/// Clears the weights of all blocks but `kept` of 100, chosen by a hash of their place.
void clear_blocks(const GemmKernel& kernel, size_t n, size_t k, size_t kept, int8_t* w) {
  const size_t panels = (n + kernel.nr - 1) / kernel.nr;
  const size_t steps = (k + kernel.kr - 1) / kernel.kr;
  const size_t blocks = panels * steps;
  const size_t full = (blocks * kept + 50) / 100;
  Generator generator;
  size_t left = full;
  for (size_t b = 0; b < blocks; ++b) {
    if ((generator.next() >> 8) % (blocks - b) < left) {
      --left;
      continue;
    }
    for (size_t c = b / steps * kernel.nr; c < (b / steps + 1) * kernel.nr && c < n; ++c) {
      for (size_t i = b % steps * kernel.kr; i < (b % steps + 1) * kernel.kr && i < k; ++i) {
        w[c * k + i] = 0;
      }
    }
  }
}

int fail(const char* message) {
  std::fprintf(stderr, "edgekit_call_kernel: %s\n", message);
  return 2;
}

int call_gemm(const IsaInfo& isa, const char* shape, int times) {
  GemmArgs args = {};
  if (std::sscanf(shape, "%zux%zux%zu", &args.m, &args.k, &args.n) != 3) {
    return fail("a shape is MxKxN");
  }
  const GemmKernel* kernel =
      &select_gemm(isa.isa, isa.storage, args.m, args.n, args.k, 1, /*pair_sums_fit_16=*/false);
  if (kernel->run == nullptr) return fail("the kernel was not built");
  std::printf("%s\n", kernel->name);
  const std::vector<int8_t> w = make_weights(args.n * args.k);
  std::vector<int8_t> packed(packed_gemm_size(*kernel, args.n, args.k, 1) + kReadable);
  pack_gemm(*kernel, w.data(), args.n, args.k, 1, packed.data());
  const std::vector<uint8_t> a = make_codes(args.m * args.k);
  std::vector<uint8_t> y(args.m * args.n + kReadable);
  Constants constants(kernel->storage, args.n, args.k);
  benchmark::FusedConstants fused;
  args.taps = 1;
  args.a = a.data();
  args.a_stride = args.k;
  args.w = packed.data();
  const std::vector<uint8_t> wide = find_wide_steps(*kernel, packed.data(), args.n, args.k, 1);
  args.wide_steps = wide.empty() ? nullptr : wide.data();
  args.bias = constants.bias.data();
  args.requantize = constants.requantize;
  fused.give(*kernel, w.data(), constants.scale.data(), &args);
  args.y = y.data();
  args.y_stride = args.n;
  for (int i = 0; i < times; ++i) kernel->run(args);
  return 0;
}

int call_sparse(const IsaInfo& isa, const char* shape, size_t kept, int times) {
  GemmArgs args = {};
  if (std::sscanf(shape, "%zux%zux%zu", &args.m, &args.k, &args.n) != 3) {
    return fail("a shape is MxKxN");
  }
  const GemmKernel& kernel = select_sparse_gemm(isa.isa, isa.storage, /*pair_sums_fit_16=*/false);
  if (kernel.run == nullptr) return fail("the kernel was not built");
  std::printf("%s\n", kernel.name);
  std::vector<int8_t> w = make_weights(args.n * args.k);
  clear_blocks(kernel, args.n, args.k, kept, w.data());
  const std::vector<uint8_t> packed = pack_sparse_gemm(kernel, w.data(), args.n, args.k, 1);
  const SparseWeights weights = sparse_weights(kernel, packed.data(), args.n, 1);
  const std::vector<uint8_t> a = make_codes(args.m * args.k);
  std::vector<uint8_t> y(args.m * args.n + kReadable);
  Constants constants(kernel.storage, args.n, args.k);
  benchmark::FusedConstants fused;
  args.taps = 1;
  args.a = a.data();
  args.a_stride = args.k;
  args.w = weights.w;
  args.block_starts = weights.starts;
  args.block_steps = weights.steps;
  args.bias = constants.bias.data();
  args.requantize = constants.requantize;
  fused.give(kernel, w.data(), constants.scale.data(), &args);
  args.y = y.data();
  args.y_stride = args.n;
  for (int i = 0; i < times; ++i) kernel.run(args);
  return 0;
}

int call_depthwise(const IsaInfo& isa, const char* shape, size_t window, size_t stride, int times) {
  DepthwiseArgs args = {};
  if (std::sscanf(shape, "%zux%zux%zu", &args.out_rows, &args.out_width, &args.channels) != 3) {
    return fail("a shape is HxWxC");
  }
  const DepthwiseKernel* kernel = &select_depthwise(isa.isa, isa.storage, args.channels, window,
                                                    window, stride, /*dilation_w=*/1);
  if (kernel->run == nullptr) return fail("the kernel was not built");
  std::printf("%s\n", kernel->name);
  args.in_width = args.out_width * stride;
  args.kernel_h = args.kernel_w = window;
  args.stride_h = args.stride_w = stride;
  args.dilation_h = args.dilation_w = 1;
  args.pad_left = (window - stride) / 2;
  const std::vector<int8_t> w = make_weights(args.channels * window * window);
  std::vector<int8_t> packed(packed_depthwise_size(*kernel, args.channels, window, window) +
                             kReadable);
  pack_depthwise(*kernel, w.data(), args.channels, window, window, packed.data());
  const size_t row_size = args.in_width * args.channels;
  const std::vector<uint8_t> x = make_codes(row_size);
  const std::vector<const uint8_t*> rows((args.out_rows - 1) * stride + window, x.data());
  const std::vector<uint8_t> zero(args.channels + kReadable, 0x80);
  const Constants constants(kernel->storage, args.channels, window * window);
  std::vector<uint8_t> y(args.out_rows * args.out_width * args.channels + kReadable);
  args.rows = rows.data();
  args.zero = zero.data();
  args.w = packed.data();
  args.bias = constants.bias.data();
  args.requantize = constants.requantize;
  args.y = y.data();
  args.y_stride = args.out_width * args.channels;
  for (int i = 0; i < times; ++i) kernel->run(args);
  return 0;
}

int run(const std::vector<const char*>& words) {
  Isa isa;
  if (words.size() < 3 || !parse_isa(words[1], &isa)) {
    return fail("usage: ISA gemm MxKxN TIMES | ISA depthwise HxWxC KERNEL STRIDE TIMES");
  }
  if (!isa_built(isa) || !isa_supported(isa)) return fail("this CPU or build lacks that set");
  const std::string op = words[2];
  if (op == "gemm" && words.size() == 5) {
    return call_gemm(isa_info(isa), words[3], std::atoi(words[4]));
  }
  if (op == "sparse" && words.size() == 6) {
    return call_sparse(isa_info(isa), words[3], std::strtoul(words[4], nullptr, 10),
                       std::atoi(words[5]));
  }
  if (op == "depthwise" && words.size() == 7) {
    return call_depthwise(isa_info(isa), words[3], std::strtoul(words[4], nullptr, 10),
                          std::strtoul(words[5], nullptr, 10), std::atoi(words[6]));
  }
  return fail("a problem is gemm MxKxN or depthwise HxWxC KERNEL STRIDE");
}

}  // namespace
}  // namespace edgekit

int main(int argc, char** argv) { return edgekit::run({argv, argv + argc}); }
