#include "kernels/float_depthwise/float_depthwise.h"

#include <cstring>
#include <string>
#include <vector>

#include "guarded_buffer.h"
#include "kernels/float_depthwise/reference.h"
#include "random.h"
#include "random_floats.h"
#include "test.h"

namespace edgekit {
namespace {

using test::GuardedBuffer;
using test::Random;

constexpr float kUntouched = -12345.0F;

struct Problem {
  size_t channels, in_width, out_rows, kernel_h, kernel_w, stride, dilation, pad_left, pad_right;
  bool residual;
};

std::string describe(const FloatDepthwiseKernel& kernel, const Problem& p) {
  const auto text = [](size_t value) { return std::to_string(value); };
  return std::string(kernel.name) + " channels " + text(p.channels) + " width " + text(p.in_width) +
         " rows " + text(p.out_rows) + " kernel " + text(p.kernel_h) + "x" + text(p.kernel_w) +
         " stride " + text(p.stride) + " dilation " + text(p.dilation) + " pads " +
         text(p.pad_left) + " " + text(p.pad_right) + (p.residual ? " with residual" : "");
}

/// Runs the kernel and the reference on one problem; the floats of y between the rows count too.
void compare(Random& random, const FloatDepthwiseKernel& kernel, const Problem& p) {
  test::set_case(describe(kernel, p));
  FloatDepthwiseArgs args{};
  args.channels = p.channels;
  args.in_width = p.in_width;
  const size_t span = (p.kernel_w - 1) * p.dilation + 1;
  args.out_width = (p.in_width + p.pad_left + p.pad_right - span) / p.stride + 1;
  args.out_rows = p.out_rows;
  args.kernel_h = p.kernel_h;
  args.kernel_w = p.kernel_w;
  args.stride_h = args.stride_w = p.stride;
  args.dilation_h = args.dilation_w = p.dilation;
  args.pad_left = p.pad_left;

  std::vector<float> w(p.channels * p.kernel_h * p.kernel_w);
  test::fill_floats(random, w.data(), w.size());
  GuardedBuffer<float> packed(
      packed_float_depthwise_size(kernel, p.channels, p.kernel_h, p.kernel_w));
  pack_float_depthwise(kernel, w.data(), p.channels, p.kernel_h, p.kernel_w, packed.data());
  GuardedBuffer<float> bias((p.channels + kernel.cr - 1) / kernel.cr * kernel.cr);
  test::fill_floats(random, bias.data(), bias.size());
  const size_t row_count = (p.out_rows - 1) * p.stride + (p.kernel_h - 1) * p.dilation + 1;
  const size_t row_size = p.in_width * p.channels;
  GuardedBuffer<float> x(row_count * row_size);
  test::fill_floats(random, x.data(), x.size());
  GuardedBuffer<float> zero(row_size);
  for (float& value : zero) value = 0;
  GuardedBuffer<const float*> rows(row_count);
  for (size_t i = 0; i < row_count; ++i) {
    rows[i] = random.one_in(6) ? zero.data() : x.data() + (row_count - 1 - i) * row_size;
  }
  const size_t y_row = args.out_width * p.channels;
  const size_t y_step = y_row + random.size(0, 9);
  const size_t y_size = (p.out_rows - 1) * y_step + y_row;
  GuardedBuffer<float> y(y_size);
  for (float& value : y) value = kUntouched;
  std::vector<float> expected(y_size, kUntouched);
  const size_t residual_step = y_row + random.size(0, 9);
  GuardedBuffer<float> other((p.out_rows - 1) * residual_step + y_row);
  test::fill_floats(random, other.data(), other.size());

  args.rows = rows.data();
  args.zero = zero.data();
  args.w = packed.data();
  args.bias = bias.data();
  test::pick_clamp(random, &args.lo, &args.hi);
  args.residual = p.residual ? other.data() : nullptr;
  args.residual_stride = residual_step * sizeof(float);
  args.y_stride = y_step * sizeof(float);
  args.y = expected.data();
  reference_float_depthwise(args, w.data());
  args.y = y.data();
  kernel.run(args);
  test::count_case(kernel.isa);
  EDGEKIT_CHECK(std::memcmp(y.data(), expected.data(), y_size * sizeof(float)) == 0,
                describe(kernel, p));
}

template <class Body>
void for_each_kernel(const Body& body) {
  size_t count = 0;
  const FloatDepthwiseKernel* kernels = float_depthwise_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    if (test::can_run(kernels[i].name, kernels[i].isa, kernels[i].run != nullptr)) body(kernels[i]);
  }
}

}  // namespace

EDGEKIT_TEST(equals_reference_at_boundaries) {
  Random random(test::seed());
  for_each_kernel([&](const FloatDepthwiseKernel& kernel) {
    for (const size_t channels :
         {size_t{1}, kernel.cr - 1, kernel.cr, kernel.cr + 1, 4 * kernel.cr, 5 * kernel.cr + 3}) {
      for (const size_t width : {3u, 7u, 8u, 12u, 19u}) {
        for (const size_t size : {1u, 3u, 5u}) {
          const size_t pad = size / 2;
          compare(random, kernel,
                  {channels, width, 2, size, size, random.size(1, 2), 1, width < size ? size : pad,
                   pad, random.one_in(2)});
        }
      }
    }
  });
}

EDGEKIT_TEST(equals_reference_on_random_problems) {
  Random random(test::seed());
  for_each_kernel([&](const FloatDepthwiseKernel& kernel) {
    for (int i = 0; i < 80; ++i) {
      Problem p{random.size(1, 70), random.size(1, 24), random.size(1, 4), random.size(1, 4),
                random.size(1, 7),  random.size(1, 3),  random.size(1, 3), random.size(0, 8),
                random.size(0, 8),  random.one_in(3)};
      const size_t span = (p.kernel_w - 1) * p.dilation + 1;
      if (p.in_width + p.pad_left + p.pad_right < span) p.in_width = span;
      compare(random, kernel, p);
    }
  });
}

EDGEKIT_TEST(every_instruction_set_has_a_kernel) {
  size_t count = 0;
  const IsaInfo* isas = isa_table(&count);
  for (size_t i = 0; i < count; ++i) {
    EDGEKIT_CHECK(isa_contains(isas[i].isa, select_float_depthwise(isas[i].isa).isa), isas[i].name);
  }
  EDGEKIT_CHECK(find_float_depthwise_kernel("depthwise_f32_f32_f32_generic") != nullptr, "by name");
  EDGEKIT_CHECK(find_float_depthwise_kernel("depthwise") == nullptr, "by name");
}

}  // namespace edgekit
