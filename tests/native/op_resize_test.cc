#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "op_harness.h"
#include "ops/resize.h"
#include "random_codes.h"

// Resizing of images, nearest and linear, in both storages.

namespace edgekit {
namespace {

using test::OwnedTensor;
using test::Random;

constexpr int kCases = 200;
constexpr PlanTarget kTargets[] = {{Isa::kGeneric, Storage::kS8}, {Isa::kGeneric, Storage::kU8}};

std::vector<uint32_t> pick_places(Random& random, int64_t in, int64_t out) {
  std::vector<uint32_t> places(static_cast<size_t>(out));
  for (uint32_t& place : places) place = static_cast<uint32_t>(random.integer(0, in - 1));
  if (random.one_in(2)) std::sort(places.begin(), places.end());
  return places;
}

std::vector<uint16_t> pick_weights(Random& random, int64_t out) {
  std::vector<uint16_t> weights(static_cast<size_t>(out));
  for (uint16_t& weight : weights) {
    weight = static_cast<uint16_t>(random.one_in(3) ? random.pick<int64_t>({0, 1024, 2048})
                                                    : random.integer(0, 2048));
  }
  return weights;
}

void check_resize(Random& random, const PlanTarget& target) {
  const bool linear = random.one_in(2);
  const bool floats = !linear && random.one_in(4);
  const std::vector<int64_t> in = {random.integer(1, 2), random.integer(1, 6), random.integer(1, 6),
                                   random.integer(1, 40)};
  const std::vector<int64_t> out = {in[0], random.integer(1, 12), random.integer(1, 12), in[3]};
  const DType dtype = floats ? DType::kFloat32 : DType::kCode;
  OwnedTensor x("x", dtype, in);
  OwnedTensor y("y", dtype, out);
  test::pick_quantization(random, x.view());
  y.view().scale = x.view().scale;
  y.view().zero_point = x.view().zero_point;
  if (linear && random.one_in(2)) test::pick_quantization(random, y.view());
  test::fill_bytes(random, x.bytes(), x.size());
  ResizeParams params = {
      x.view(), y.view(), pick_places(random, in[1], out[1]), pick_places(random, in[2], out[2]),
      {},       {}};
  if (linear) {
    params.row_weights = pick_weights(random, out[1]);
    params.column_weights = pick_weights(random, out[2]);
    test::pick_bounds(random, &params.lo, &params.hi);
  }
  const size_t element = dtype_size(dtype);
  std::vector<uint8_t> expected(y.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const size_t pixel_size = static_cast<size_t>(in[3]) * element;
    const auto column = i / pixel_size % static_cast<size_t>(out[2]);
    const auto row = i / pixel_size / static_cast<size_t>(out[2]) % static_cast<size_t>(out[1]);
    const auto image = i / pixel_size / static_cast<size_t>(out[1] * out[2]);
    const auto index = [&](size_t r, size_t s) {
      const size_t line = image * static_cast<size_t>(in[1]) + r;
      return (line * static_cast<size_t>(in[2]) + s) * pixel_size + i % pixel_size;
    };
    const size_t r = params.rows[row];
    const size_t s = params.columns[column];
    if (!linear) {
      expected[i] = x.bytes()[index(r, s)];
      continue;
    }
    const size_t below = std::min(r + 1, static_cast<size_t>(in[1]) - 1);
    const size_t beside = std::min(s + 1, static_cast<size_t>(in[2]) - 1);
    const auto centred = [&](size_t line, size_t place) {
      return int64_t{x.code(target.storage, index(line, place)) - x.view().zero_point};
    };
    const int64_t w = params.column_weights[column];
    const int64_t v = params.row_weights[row];
    const int64_t acc = (2048 - v) * ((2048 - w) * centred(r, s) + w * centred(r, beside)) +
                        v * ((2048 - w) * centred(below, s) + w * centred(below, beside));
    const float m = x.view().scale / y.view().scale / 4194304.0f;
    expected[i] = test::to_stored(
        test::round_to_code(static_cast<float>(acc) * m, y.view().zero_point, params.lo, params.hi),
        target.storage);
  }
  std::string error;
  const std::unique_ptr<Op> op = make_resize(params, target, &error);
  EDGEKIT_CHECK(op != nullptr, error);
  if (op == nullptr) return;
  test::check_runs(random, *op, y, expected, linear ? "linear" : "nearest");
}

EDGEKIT_TEST(resize_equals_the_definition) {
  for (const PlanTarget& target : kTargets) {
    Random random(test::seed());
    for (int i = 0; i < kCases; ++i) {
      check_resize(random, target);
      test::count_case(target.isa);
    }
  }
}

EDGEKIT_TEST(resize_refuses_what_does_not_fit) {
  OwnedTensor x("x", DType::kCode, {1, 2, 3, 4});
  OwnedTensor y("y", DType::kCode, {1, 4, 3, 4});
  const ResizeParams good = {x.view(), y.view(), {0, 0, 1, 1}, {0, 1, 2}, {}, {}};
  struct Change {
    const char* message;
    std::function<void(ResizeParams&)> make;
  };
  const Change changes[] = {
      {"rows do not fit", [](ResizeParams& p) { p.rows.pop_back(); }},
      {"rows do not fit", [](ResizeParams& p) { p.rows[3] = 2; }},
      {"columns do not fit", [](ResizeParams& p) { p.columns[0] = 0xFFFFFFFFu; }},
      {"columns do not fit", [](ResizeParams& p) { p.row_weights = {0, 0, 0, 0}; }},
      {"columns do not fit",
       [](ResizeParams& p) {
         p.row_weights = {0, 0, 0, 0};
         p.column_weights = {0, 2049, 0};
       }},
      {"same n and c", [](ResizeParams& p) { p.output.shape.dims[3] = 3; }},
      {"same n and c", [](ResizeParams& p) { p.input.shape.rank = 3; }},
      {"different scales", [](ResizeParams& p) { p.output.scale = 2; }},
      {"different types", [](ResizeParams& p) { p.output.dtype = DType::kUInt8; }},
      {"overlap", [](ResizeParams& p) { p.output.data = p.input.data; }},
      {"caller's memory", [](ResizeParams& p) { p.input.external = true; }},
      {"bounds", [](ResizeParams& p) { p.lo = 128; }},
  };
  std::string error;
  EDGEKIT_CHECK(make_resize(good, kTargets[0], &error) != nullptr, error);
  for (const Change& change : changes) {
    ResizeParams params = good;
    change.make(params);
    test::check_refused(make_resize(params, kTargets[0], &error), error, change.message);
  }
}

}  // namespace
}  // namespace edgekit
