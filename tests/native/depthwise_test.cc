#include "kernels/depthwise/depthwise.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "guarded_buffer.h"
#include "kernels/depthwise/reference.h"
#include "random.h"
#include "random_codes.h"
#include "test.h"

namespace edgekit {
namespace {

using test::GuardedBuffer;
using test::Random;

constexpr size_t kReadable = 64;
constexpr uint8_t kUntouched = 0xA5;

size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

std::string describe(const DepthwiseKernel& kernel, const DepthwiseArgs& args) {
  const auto pair = [](size_t a, size_t b) { return std::to_string(a) + "x" + std::to_string(b); };
  return std::string(kernel.name) + " channels " + std::to_string(args.channels) + " in_width " +
         std::to_string(args.in_width) + " out " + pair(args.out_rows, args.out_width) +
         " kernel " + pair(args.kernel_h, args.kernel_w) + " stride " +
         pair(args.stride_h, args.stride_w) + " dilation " +
         pair(args.dilation_h, args.dilation_w) + " pad_left " + std::to_string(args.pad_left) +
         (args.requantize.residual ? " with residual" : "");
}

/// Runs the kernel and the reference on the shape in `args`, in memory that ends where the contract
/// says that it may; the bytes of y between the rows count too.
void compare(Random& random, const DepthwiseKernel& kernel, DepthwiseArgs args, bool residual) {
  const size_t taps = args.kernel_h * args.kernel_w;
  std::vector<int8_t> w(args.channels * taps);
  test::fill_weights(random, w.data(), w.size());
  const size_t unaligned = random.size(0, 1);
  GuardedBuffer<int8_t> packed(
      packed_depthwise_size(kernel, args.channels, args.kernel_h, args.kernel_w) + unaligned);
  pack_depthwise(kernel, w.data(), args.channels, args.kernel_h, args.kernel_w, packed.data());

  const size_t padded = round_up(args.channels, kernel.cr);
  GuardedBuffer<int32_t> bias(padded);
  GuardedBuffer<float> scale(padded);
  test::fill_bias(random, bias.data(), padded);
  test::fill_scale(random, scale.data(), padded);

  const size_t row_size = args.in_width * args.channels;
  const size_t row_count =
      (args.out_rows - 1) * args.stride_h + (args.kernel_h - 1) * args.dilation_h + 1;
  // Behind a Relu the byte is 0, which kernels may leave out.
  const auto zero_point = random.one_in(2) ? 0 : static_cast<int>(random.integer(0, 255));
  GuardedBuffer<uint8_t> x(row_count * row_size + kReadable);
  test::fill_bytes(random, x.data(), x.size());
  GuardedBuffer<uint8_t> zero(args.channels + kReadable);
  test::fill_bytes(random, zero.data(), zero.size());
  std::memset(zero.data(), zero_point, args.channels);
  GuardedBuffer<uint8_t> padding(row_size + kReadable);
  std::memset(padding.data(), zero_point, padding.size());
  GuardedBuffer<const uint8_t*> rows(row_count);
  for (size_t h = 0; h < row_count; ++h) {
    rows[h] = random.one_in(5) ? padding.data() : x.data() + h * row_size;
  }

  const size_t width = args.out_width * args.channels;
  args.y_stride = width + random.size(0, 9);
  const size_t y_size = (args.out_rows - 1) * args.y_stride + width;
  GuardedBuffer<uint8_t> y(y_size);
  std::vector<uint8_t> expected(y_size, kUntouched);
  std::memset(y.data(), kUntouched, y_size);

  const size_t residual_stride = width + random.size(0, 9);
  GuardedBuffer<uint8_t> other((args.out_rows - 1) * residual_stride + width + kReadable);
  test::fill_bytes(random, other.data(), other.size());

  args.rows = rows.data();
  args.zero = zero.data();
  args.w = packed.data();
  args.bias = bias.data();
  args.requantize = test::pick_requantize(random, kernel.storage);
  args.requantize.scale = scale.data();
  args.requantize.products_fit_16 =
      products_fit_16(bias.data(), scale.data(), args.channels,
                      static_cast<int64_t>(taps) * largest_product(kernel.storage));
  args.requantize.residual = residual ? other.data() : nullptr;
  args.requantize.residual_stride = residual ? residual_stride : 0;
  args.y = y.data();
  test::set_case(describe(kernel, args));
  kernel.run(args);

  args.y = expected.data();
  reference_depthwise(args, kernel.storage, w.data());
  const auto difference = std::mismatch(expected.begin(), expected.end(), y.begin());
  EDGEKIT_CHECK(difference.first == expected.end(),
                describe(kernel, args) + ": byte " +
                    std::to_string(difference.first - expected.begin()) + " is " +
                    std::to_string(*difference.second) + ", not " +
                    std::to_string(*difference.first));
  test::count_case(kernel.isa);
}

/// Draws kernel, stride, dilation and padding, then a row that is wide enough for one output.
DepthwiseArgs pick_shape(Random& random, const DepthwiseKernel& kernel) {
  DepthwiseArgs args{};
  args.channels =
      random.one_in(2) ? random.size(1, 2 * size_t{kernel.cr} + 1) : kernel.cr * random.size(1, 3);
  const bool square = random.one_in(2);
  args.kernel_h = random.size(1, 7);
  args.kernel_w = square ? args.kernel_h : random.size(1, 7);
  if (random.one_in(12)) {
    args.kernel_h = random.size(8, 13);
    args.kernel_w = random.size(20, 70);
  }
  args.stride_h = random.pick<size_t>({1, 1, 2, 3});
  args.stride_w = square ? args.stride_h : random.pick<size_t>({1, 1, 2, 3});
  args.dilation_h = random.pick<size_t>({1, 1, 1, 2, 3});
  args.dilation_w = square ? args.dilation_h : random.pick<size_t>({1, 1, 1, 2, 100});
  const size_t span = (args.kernel_w - 1) * args.dilation_w + 1;
  args.pad_left = random.size(0, span - 1);
  const size_t pad_right = random.size(0, span - 1);
  args.in_width = random.one_in(10) ? random.size(200, 400) : random.size(1, 40);
  const size_t padded = args.in_width + args.pad_left + pad_right;
  if (padded < span) args.in_width += span - padded;
  args.out_width = (args.in_width + args.pad_left + pad_right - span) / args.stride_w + 1;
  args.out_rows = random.size(1, 2 * size_t{kernel.tile_rows} + 1);
  return args;
}

/// Draws one of the windows that kernels have short ways for, over rows from narrower than itself
/// to wider than any scratch.
DepthwiseArgs pick_common_shape(Random& random, const DepthwiseKernel& kernel) {
  DepthwiseArgs args{};
  const size_t cr = kernel.cr;
  args.channels = cr * random.size(0, 2) + random.pick<size_t>({1, 15, 16, 17, 31, 32, 33, 48, cr});
  args.kernel_h = args.kernel_w = random.pick<size_t>({3, 5});
  args.stride_h = args.stride_w = random.size(1, 2);
  if (random.one_in(8)) args.stride_h = random.size(1, 3);
  args.dilation_h = random.one_in(8) ? 2 : 1;
  args.dilation_w = 1;
  args.pad_left = random.one_in(2) ? args.kernel_w / 2 : random.size(0, args.kernel_w - 1);
  const size_t pad_right = random.size(0, args.kernel_w - 1);
  args.in_width = random.one_in(10) ? random.size(110, 260) : random.size(1, 20);
  const size_t padded = args.in_width + args.pad_left + pad_right;
  if (padded < args.kernel_w) args.in_width += args.kernel_w - padded;
  args.out_width = (args.in_width + args.pad_left + pad_right - args.kernel_w) / args.stride_w + 1;
  args.out_rows = random.size(1, 5);
  return args;
}

EDGEKIT_TEST(kernels_equal_the_reference) {
  size_t count = 0;
  const DepthwiseKernel* kernels = depthwise_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    const DepthwiseKernel& kernel = kernels[i];
    if (!test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
    Random random(test::seed());
    constexpr int kCases = 400;
    for (int j = 0; j < kCases; ++j) {
      const DepthwiseArgs args = pick_shape(random, kernel);
      compare(random, kernel, args, random.one_in(3));
      compare(random, kernel, pick_common_shape(random, kernel), random.one_in(8));
    }
  }
  test::require_cases({Isa::kX86Amx, Isa::kArmI8mm});
}

/// Packs weights that are all different and checks that position p of a block of `order.size()`
/// channels holds channel order[p].
void check_packing(const std::vector<size_t>& order) {
  const auto cr = static_cast<uint16_t>(order.size());
  const DepthwiseKernel kernel{"", Isa::kGeneric, Storage::kS8, 1, cr, 2, nullptr};
  const size_t channels = cr + size_t{2};
  constexpr size_t kH = 3;
  constexpr size_t kW = 2;
  std::vector<int8_t> w(channels * kH * kW);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<int8_t>(i + 1);
  std::vector<int8_t> packed(packed_depthwise_size(kernel, channels, kH, kW));
  EDGEKIT_CHECK(packed.size() == 2 * cr * kW * 4, std::to_string(packed.size()));
  pack_depthwise(kernel, w.data(), channels, kH, kW, packed.data());
  for (size_t position = 0; position < 2 * size_t{cr}; ++position) {
    const size_t c = position / cr * cr + order[position % cr];
    for (size_t s = 0; s < kW; ++s) {
      for (size_t r = 0; r < 4; ++r) {
        const bool inside = c < channels && r < kH;
        const int8_t expected = inside ? w[(c * kH + r) * kW + s] : int8_t{0};
        const size_t at = (((position / cr * kW + s) * 2 + r / 2) * cr + position % cr) * 2 + r % 2;
        EDGEKIT_CHECK(packed[at] == expected, std::to_string(at));
      }
    }
  }
}

EDGEKIT_TEST(packing_places_every_weight_once) {
  check_packing({0, 1, 2, 3});
  check_packing({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15});
  check_packing({0, 1, 2,  3,  16, 17, 18, 19, 4,  5,  6,  7,  20, 21, 22, 23,
                 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31});
}

EDGEKIT_TEST(selection_finds_a_kernel_for_every_isa) {
  size_t count = 0;
  const IsaInfo* table = isa_table(&count);
  for (size_t i = 0; i < count; ++i) {
    const DepthwiseKernel& kernel =
        select_depthwise(table[i].isa, table[i].storage, 96, 3, 3, 1, 1);
    EDGEKIT_CHECK(isa_contains(table[i].isa, kernel.isa), kernel.name);
    EDGEKIT_CHECK(kernel.storage == table[i].storage, kernel.name);
    EDGEKIT_CHECK(find_depthwise_kernel(kernel.name) == &kernel, kernel.name);
  }
}

EDGEKIT_TEST(kernel_names_say_their_rows) {
  size_t count = 0;
  const DepthwiseKernel* kernels = depthwise_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    const DepthwiseKernel& kernel = kernels[i];
    const std::string type = kernel.storage == Storage::kU8 ? "u8" : "s8";
    const std::string begin = "depthwise_" + type + "_s8c_" + type + "_";
    const std::string isa = isa_info(kernel.isa).name;
    const std::string name = kernel.name;
    EDGEKIT_CHECK(name.rfind(begin, 0) == 0, name);
    EDGEKIT_CHECK(
        name.size() >= isa.size() && name.compare(name.size() - isa.size(), isa.size(), isa) == 0,
        name);
    EDGEKIT_CHECK((kernel.run != nullptr) == isa_built(kernel.isa), kernel.name);
  }
}

}  // namespace
}  // namespace edgekit
