#include <functional>
#include <string>
#include <vector>

#include "conv_problem.h"
#include "op_harness.h"
#include "ops/global_mean.h"
#include "ops/pool.h"
#include "random_codes.h"

namespace edgekit {
namespace {

using test::OwnedTensor;
using test::Random;

constexpr int kCases = 200;
constexpr PlanTarget kTargets[] = {{Isa::kGeneric, Storage::kS8}, {Isa::kGeneric, Storage::kU8}};

int64_t extent(int64_t in, uint32_t pads, uint32_t kernel, uint32_t dilation, uint32_t stride) {
  return (in + pads - ((kernel - 1) * dilation + 1)) / stride + 1;
}

/// Draws a window of which each position covers an element: less padding than window, no gaps
/// there.
Window pick_pool_window(Random& random, size_t* in_h, size_t* in_w) {
  Window w = test::pick_window(random, in_h, in_w);
  const auto limit = [](uint32_t pad, uint32_t kernel, uint32_t dilation) {
    return dilation == 1 ? std::min(pad, kernel - 1) : 0;
  };
  w.pad_top = limit(w.pad_top, w.kernel_h, w.dilation_h);
  w.pad_bottom = limit(w.pad_bottom, w.kernel_h, w.dilation_h);
  w.pad_left = limit(w.pad_left, w.kernel_w, w.dilation_w);
  w.pad_right = limit(w.pad_right, w.kernel_w, w.dilation_w);
  *in_h = std::max<size_t>(*in_h, (w.kernel_h - 1) * w.dilation_h + 1);
  *in_w = std::max<size_t>(*in_w, (w.kernel_w - 1) * w.dilation_w + 1);
  return w;
}

/// The codes that one output covers.
std::vector<int32_t> covered_codes(const OwnedTensor& x, Storage storage, const Window& w,
                                   const int64_t* out, size_t index) {
  const int64_t* in = x.view().shape.dims;
  const int64_t i = static_cast<int64_t>(index);
  const int64_t c = i % in[3];
  const int64_t column = i / in[3] % out[2];
  const int64_t row = i / in[3] / out[2] % out[1];
  const int64_t image = i / in[3] / out[2] / out[1];
  std::vector<int32_t> codes;
  for (int64_t r = 0; r < w.kernel_h; ++r) {
    for (int64_t s = 0; s < w.kernel_w; ++s) {
      const int64_t y_at = row * w.stride_h + r * w.dilation_h - w.pad_top;
      const int64_t x_at = column * w.stride_w + s * w.dilation_w - w.pad_left;
      if (y_at < 0 || y_at >= in[1] || x_at < 0 || x_at >= in[2]) continue;
      const int64_t from = ((image * in[1] + y_at) * in[2] + x_at) * in[3] + c;
      codes.push_back(x.code(storage, static_cast<size_t>(from)));
    }
  }
  return codes;
}

/// Returns the mean's code by the rule of docs/arithmetic.md.
int64_t mean_code(const std::vector<int32_t>& codes, size_t count, const TensorView& x,
                  const TensorView& y, int32_t lo, int32_t hi) {
  int32_t sum = 0;
  for (const int32_t code : codes) sum += code - x.zero_point;
  const float divisor = y.scale * static_cast<float>(count);
  const float v = static_cast<float>(sum) * (x.scale / divisor);
  return test::round_to_code(v, y.zero_point, lo, hi);
}

void check_pool(Random& random, const PlanTarget& target) {
  size_t in_h = 0;
  size_t in_w = 0;
  PoolParams params;
  params.window = pick_pool_window(random, &in_h, &in_w);
  const Window& w = params.window;
  const int64_t images = random.integer(1, 2);
  const int64_t channels = random.integer(1, random.one_in(4) ? 140 : 12);
  const int64_t out_h = extent(static_cast<int64_t>(in_h), w.pad_top + w.pad_bottom, w.kernel_h,
                               w.dilation_h, w.stride_h);
  const int64_t out_w = extent(static_cast<int64_t>(in_w), w.pad_left + w.pad_right, w.kernel_w,
                               w.dilation_w, w.stride_w);
  OwnedTensor x("x", DType::kCode,
                {images, static_cast<int64_t>(in_h), static_cast<int64_t>(in_w), channels});
  OwnedTensor y("y", DType::kCode, {images, out_h, out_w, channels});
  test::fill_bytes(random, x.bytes(), x.size());
  test::pick_quantization(random, x.view());
  test::pick_quantization(random, y.view());
  params.kind = random.pick({PoolKind::kMax, PoolKind::kAverage});
  params.count_include_pad = random.one_in(2);
  test::pick_bounds(random, &params.lo, &params.hi);
  if (params.kind == PoolKind::kMax) {
    y.view().scale = x.view().scale;
    y.view().zero_point = x.view().zero_point;
  }
  params.input = x.view();
  params.output = y.view();
  std::vector<uint8_t> expected(y.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const std::vector<int32_t> codes = covered_codes(x, target.storage, w, y.view().shape.dims, i);
    int64_t code = 0;
    if (params.kind == PoolKind::kMax) {
      const int32_t top = *std::max_element(codes.begin(), codes.end());
      code = std::clamp(top, params.lo, params.hi);
    } else {
      const size_t count =
          params.count_include_pad ? size_t{w.kernel_h} * w.kernel_w : codes.size();
      code = mean_code(codes, count, x.view(), y.view(), params.lo, params.hi);
    }
    expected[i] = test::to_stored(code, target.storage);
  }
  std::string error;
  const std::unique_ptr<Op> op = make_pool(params, target, &error);
  EDGEKIT_CHECK(op != nullptr, error);
  if (op == nullptr) return;
  test::check_runs(random, *op, y, expected,
                   "kind " + std::to_string(static_cast<int>(params.kind)) + " kernel " +
                       std::to_string(w.kernel_h) + "x" + std::to_string(w.kernel_w) +
                       " channels " + std::to_string(channels));
}

EDGEKIT_TEST(pools_equal_the_definition) {
  for (const PlanTarget& target : kTargets) {
    Random random(test::seed());
    for (int i = 0; i < kCases; ++i) {
      check_pool(random, target);
      test::count_case(target.isa);
    }
  }
}

EDGEKIT_TEST(global_mean_equals_the_definition) {
  for (const PlanTarget& target : kTargets) {
    Random random(test::seed());
    for (int i = 0; i < kCases; ++i) {
      const std::vector<int64_t> dims = {random.integer(1, 3), random.integer(1, 9),
                                         random.integer(1, 9), random.integer(1, 200)};
      OwnedTensor x("x", DType::kCode, dims);
      OwnedTensor y("y", DType::kCode, {dims[0], 1, 1, dims[3]});
      test::fill_bytes(random, x.bytes(), x.size());
      test::pick_quantization(random, x.view());
      test::pick_quantization(random, y.view());
      GlobalMeanParams params;
      params.input = x.view();
      params.output = y.view();
      test::pick_bounds(random, &params.lo, &params.hi);
      Window whole;
      whole.kernel_h = static_cast<uint32_t>(dims[1]);
      whole.kernel_w = static_cast<uint32_t>(dims[2]);
      std::vector<uint8_t> expected(y.size());
      for (size_t j = 0; j < expected.size(); ++j) {
        const std::vector<int32_t> codes =
            covered_codes(x, target.storage, whole, y.view().shape.dims, j);
        const int64_t code =
            mean_code(codes, codes.size(), x.view(), y.view(), params.lo, params.hi);
        expected[j] = test::to_stored(code, target.storage);
      }
      std::string error;
      const std::unique_ptr<Op> op = make_global_mean(params, target, &error);
      EDGEKIT_CHECK(op != nullptr, error);
      if (op != nullptr) test::check_runs(random, *op, y, expected, "global mean");
      test::count_case(target.isa);
    }
  }
}

EDGEKIT_TEST(hostile_parameters_are_refused) {
  OwnedTensor x("x", DType::kCode, {1, 4, 4, 3});
  OwnedTensor y("y", DType::kCode, {1, 4, 4, 3});
  PoolParams params;
  params.input = x.view();
  params.output = y.view();
  struct Change {
    const char* message;
    std::function<void(PoolParams&)> make;
  };
  const Change changes[] = {
      {"nothing but padding",
       [](PoolParams& p) {
         p.window.pad_top = 1;
         p.window.stride_h = 1;
         p.output.shape.dims[1] = 5;
       }},
      {"nothing but padding",
       [](PoolParams& p) {
         p.window.pad_right = 1;
         p.output.shape.dims[2] = 5;
       }},
      {"nothing but padding",
       [](PoolParams& p) {
         p.window.kernel_w = 2, p.window.dilation_w = 6;
         p.window.pad_left = p.window.pad_right = 3;
       }},
      {"2^20",
       [](PoolParams& p) {
         p.window.kernel_h = p.window.kernel_w = 2049;
         p.window.pad_top = p.window.pad_bottom = p.window.pad_left = p.window.pad_right = 1024;
       }},
      {"in width", [](PoolParams& p) { p.window.kernel_w = 2; }},
      {"different channels", [](PoolParams& p) { p.output.shape.dims[3] = 2; }},
      {"different scales", [](PoolParams& p) { p.output.scale = 0.5f; }},
      {"kind", [](PoolParams& p) { p.kind = static_cast<PoolKind>(2); }},
      {"overlap", [](PoolParams& p) { p.output.data = p.input.data; }},
      {"bounds", [](PoolParams& p) { p.hi = -129; }},
  };
  std::string error;
  for (const Change& change : changes) {
    PoolParams wrong = params;
    change.make(wrong);
    test::check_refused(make_pool(wrong, kTargets[0], &error), error, change.message);
  }
  EDGEKIT_CHECK(make_pool(params, kTargets[0], &error) != nullptr, error);

  GlobalMeanParams mean;
  mean.input = x.view();
  mean.output = y.view();
  test::check_refused(make_global_mean(mean, kTargets[0], &error), error, "not of the shape");
}

}  // namespace
}  // namespace edgekit
