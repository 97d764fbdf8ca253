#include "kernels/shallow/shallow.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "guarded_buffer.h"
#include "kernels/shallow/reference.h"
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

std::string describe(const ShallowKernel& kernel, const ShallowArgs& args) {
  const auto pair = [](size_t a, size_t b) { return std::to_string(a) + "x" + std::to_string(b); };
  return std::string(kernel.name) + " n " + std::to_string(args.n) + " channels " +
         std::to_string(args.channels) + " out " + pair(args.out_rows, args.out_width) +
         " kernel " + pair(args.kernel_h, args.kernel_w) + " stride " +
         pair(args.stride_h, args.stride_w) + " dilation_h " + std::to_string(args.dilation_h) +
         (args.requantize.residual ? " with residual" : "");
}

/// Runs the kernel and the reference on the shape in `args`, in memory that ends where the contract
/// says that it may; the bytes of y between the rows count too.
void compare(Random& random, const ShallowKernel& kernel, ShallowArgs args, bool residual) {
  const size_t row_taps = args.kernel_w * args.channels;
  std::vector<int8_t> w(args.n * args.kernel_h * row_taps);
  test::fill_weights(random, w.data(), w.size());
  const size_t unaligned = random.size(0, 1);
  GuardedBuffer<int8_t> packed(
      packed_shallow_size(kernel, args.n, args.channels, args.kernel_h, args.kernel_w) + unaligned);
  pack_shallow(kernel, w.data(), args.n, args.channels, args.kernel_h, args.kernel_w,
               packed.data());

  const size_t padded = round_up(args.n, kernel.nr);
  GuardedBuffer<int32_t> bias(padded);
  GuardedBuffer<float> scale(padded);
  test::fill_bias(random, bias.data(), padded);
  test::fill_scale(random, scale.data(), padded);

  const size_t row_size = ((args.out_width - 1) * args.stride_w + args.kernel_w) * args.channels;
  const size_t row_count =
      (args.out_rows - 1) * args.stride_h + (args.kernel_h - 1) * args.dilation_h + 1;
  GuardedBuffer<uint8_t> x(row_count * row_size + kReadable);
  test::fill_bytes(random, x.data(), x.size());
  GuardedBuffer<uint8_t> padding(row_size + kReadable);
  std::memset(padding.data(), static_cast<int>(random.integer(0, 255)), padding.size());
  GuardedBuffer<const uint8_t*> rows(row_count);
  for (size_t h = 0; h < row_count; ++h) {
    rows[h] = random.one_in(5) ? padding.data() : x.data() + h * row_size;
  }

  const size_t width = args.out_width * args.n;
  args.y_stride = width + random.size(0, 9);
  const size_t y_size = (args.out_rows - 1) * args.y_stride + width;
  GuardedBuffer<uint8_t> y(y_size);
  std::vector<uint8_t> expected(y_size, kUntouched);
  std::memset(y.data(), kUntouched, y_size);

  const size_t residual_stride = width + random.size(0, 9);
  GuardedBuffer<uint8_t> other((args.out_rows - 1) * residual_stride + width + kReadable);
  test::fill_bytes(random, other.data(), other.size());

  args.rows = rows.data();
  args.w = packed.data();
  args.bias = bias.data();
  args.requantize = test::pick_requantize(random, kernel.storage);
  args.requantize.scale = scale.data();
  args.requantize.products_fit_16 = products_fit_16(
      bias.data(), scale.data(), args.n,
      static_cast<int64_t>(args.kernel_h * row_taps) * largest_product(kernel.storage));
  args.requantize.residual = residual ? other.data() : nullptr;
  args.requantize.residual_stride = residual ? residual_stride : 0;
  args.y = y.data();
  test::set_case(describe(kernel, args));
  kernel.run(args);

  args.y = expected.data();
  reference_shallow(args, kernel.storage, w.data());
  const auto difference = std::mismatch(expected.begin(), expected.end(), y.begin());
  EDGEKIT_CHECK(difference.first == expected.end(),
                describe(kernel, args) + ": byte " +
                    std::to_string(difference.first - expected.begin()) + " is " +
                    std::to_string(*difference.second) + ", not " +
                    std::to_string(*difference.first));
  test::count_case(kernel.isa);
}

/// Draws a window within the limits, often one of those that first layers have.
ShallowArgs pick_shape(Random& random, const ShallowKernel& kernel) {
  ShallowArgs args{};
  args.n =
      random.one_in(2) ? random.size(1, 3 * size_t{kernel.nr} + 1) : kernel.nr * random.size(1, 4);
  args.channels = random.size(1, 4);
  if (random.one_in(2)) {
    args.kernel_h = args.kernel_w = random.pick<size_t>({3, 5, 7});
  } else if (random.one_in(4)) {
    args.channels = random.size(1, kMaxShallowRow);
    args.kernel_h = random.size(1, kMaxShallowHeight);
    args.kernel_w = random.size(1, kMaxShallowRow / args.channels);
  } else {
    args.kernel_h = random.size(1, 11);
    args.kernel_w = random.size(1, 11);
  }
  args.stride_h = random.size(1, 3);
  args.stride_w = random.size(1, 3);
  args.dilation_h = random.pick<size_t>({1, 1, 1, 2});
  args.out_width = random.one_in(8) ? random.size(300, 700) : random.size(1, 40);
  args.out_rows = random.size(1, 2 * size_t{kernel.tile_rows} + 1);
  return args;
}

EDGEKIT_TEST(kernels_equal_the_reference) {
  size_t count = 0;
  const ShallowKernel* kernels = shallow_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    const ShallowKernel& kernel = kernels[i];
    if (!test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
    Random random(test::seed());
    constexpr int kCases = 400;
    for (int j = 0; j < kCases; ++j) {
      const ShallowArgs args = pick_shape(random, kernel);
      EDGEKIT_CHECK(fits_shallow(args.channels, args.kernel_h, args.kernel_w),
                    describe(kernel, args));
      compare(random, kernel, args, random.one_in(3));
    }
  }
}

EDGEKIT_TEST(packing_places_every_weight_once) {
  const ShallowKernel kernel{"", Isa::kGeneric, Storage::kS8, 1, 4, 2, nullptr};
  constexpr size_t kN = 6;
  constexpr size_t kH = 2;
  constexpr size_t kRow = 9;
  std::vector<int8_t> w(kN * kH * kRow);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<int8_t>(i + 1);
  std::vector<int8_t> packed(packed_shallow_size(kernel, kN, 3, kH, 3));
  EDGEKIT_CHECK(packed.size() == 8 * kH * 10, std::to_string(packed.size()));
  pack_shallow(kernel, w.data(), kN, 3, kH, 3, packed.data());
  for (size_t o = 0; o < 8; ++o) {
    for (size_t r = 0; r < kH; ++r) {
      for (size_t b = 0; b < 10; ++b) {
        const int8_t expected = o < kN && b < kRow ? w[(o * kH + r) * kRow + b] : int8_t{0};
        const size_t at = (((o / 4 * kH + r) * 5 + b / 2) * 4 + o % 4) * 2 + b % 2;
        EDGEKIT_CHECK(packed[at] == expected, std::to_string(at));
      }
    }
  }
}

EDGEKIT_TEST(selection_takes_few_channels_only) {
  size_t count = 0;
  const IsaInfo* table = isa_table(&count);
  for (size_t i = 0; i < count; ++i) {
    const Isa isa = table[i].isa;
    const Storage storage = table[i].storage;
    const ShallowKernel* kernel = select_shallow(isa, storage, 32, 3, 3, 3);
    EDGEKIT_CHECK(isa != Isa::kGeneric || kernel != nullptr, table[i].name);
    EDGEKIT_CHECK(select_shallow(isa, storage, 32, 5, 3, 3) == nullptr, table[i].name);
    EDGEKIT_CHECK(select_shallow(isa, storage, 32, 3, 1, 1) == nullptr, table[i].name);
    EDGEKIT_CHECK(select_shallow(isa, storage, 32, 3, 3, 22) == nullptr, table[i].name);
    EDGEKIT_CHECK(select_shallow(isa, storage, 32, 3, 17, 3) == nullptr, table[i].name);
    if (kernel == nullptr) continue;
    EDGEKIT_CHECK(isa_contains(isa, kernel->isa), kernel->name);
    EDGEKIT_CHECK(kernel->storage == storage, kernel->name);
    EDGEKIT_CHECK(find_shallow_kernel(kernel->name) == kernel, kernel->name);
    EDGEKIT_CHECK(isa == Isa::kGeneric || kernel->isa != Isa::kGeneric, kernel->name);
  }
}

EDGEKIT_TEST(kernel_names_say_their_rows) {
  size_t count = 0;
  const ShallowKernel* kernels = shallow_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    const ShallowKernel& kernel = kernels[i];
    const std::string type = kernel.storage == Storage::kU8 ? "u8" : "s8";
    const std::string expected =
        "shallow_" + type + "_s8c_" + type + "_" + isa_info(kernel.isa).name;
    EDGEKIT_CHECK(kernel.name == expected, kernel.name);
    EDGEKIT_CHECK((kernel.run != nullptr) == isa_built(kernel.isa), kernel.name);
  }
}

}  // namespace
}  // namespace edgekit
