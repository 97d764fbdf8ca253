#include <limits>
#include <string>
#include <vector>

#include "conv_problem.h"
#include "kernels/elementwise/reference.h"
#include "op_harness.h"
#include "ops/binary.h"
#include "ops/lookup.h"
#include "ops/quantize.h"
#include "ops/quantize_parts.h"
#include "ops/softmax.h"
#include "random_codes.h"

// Binary, lookup, requantize, quantize, dequantize and softmax, in both storages.

namespace edgekit {
namespace {

using test::OwnedTensor;
using test::Random;

constexpr int kCases = 200;
constexpr PlanTarget kTargets[] = {{Isa::kGeneric, Storage::kS8}, {Isa::kGeneric, Storage::kU8}};

/// Returns the element of a tensor that stands under element `index` of the broadcast `out`; pixels
/// of a smaller image repeat.
size_t broadcast_index(const Shape& out, const Shape& shape, size_t index) {
  size_t result = 0;
  size_t scale = 1;
  for (size_t i = 0; i < out.rank; ++i) {
    const size_t from_end = out.rank - 1 - i;
    const size_t dim = static_cast<size_t>(out.dims[from_end]);
    if (i < shape.rank) {
      const size_t own = static_cast<size_t>(shape.dims[shape.rank - 1 - i]);
      result += index % dim * own / dim * scale;
      scale *= own;
    }
    index /= dim;
  }
  return result;
}

/// Draws a shape that broadcasts to `out`.
std::vector<int64_t> pick_operand(Random& random, const std::vector<int64_t>& out) {
  std::vector<int64_t> dims = out;
  if (random.one_in(2)) return dims;
  for (int64_t& dim : dims) {
    if (random.one_in(2)) dim = 1;
  }
  while (!dims.empty() && dims.front() == 1 && random.one_in(2)) dims.erase(dims.begin());
  return dims;
}

void check_binary(Random& random, const PlanTarget& target) {
  std::vector<int64_t> out_dims(random.size(0, 5));
  for (int64_t& dim : out_dims) dim = random.integer(1, 6);
  if (random.one_in(4)) out_dims = {random.integer(1000, 3000)};
  std::vector<int64_t> a_dims = pick_operand(random, out_dims);
  std::vector<int64_t> b_dims = pick_operand(random, out_dims);
  if (random.one_in(4)) {
    const int64_t factors[] = {random.integer(1, 4), random.integer(1, 4)};
    b_dims = {random.integer(1, 2), random.integer(1, 4), random.integer(1, 4),
              random.integer(1, 70)};
    a_dims = {b_dims[0], b_dims[1] * factors[0], b_dims[2] * factors[1], b_dims[3]};
  }
  // Where both repeat, the broadcast has one.
  const auto dim_at = [](const std::vector<int64_t>& dims, size_t from_end) {
    return from_end < dims.size() ? dims[dims.size() - 1 - from_end] : int64_t{1};
  };
  std::vector<int64_t> joint(std::max(a_dims.size(), b_dims.size()));
  for (size_t i = 0; i < joint.size(); ++i) {
    joint[joint.size() - 1 - i] = std::max(dim_at(a_dims, i), dim_at(b_dims, i));
  }
  OwnedTensor a("a", DType::kCode, a_dims);
  OwnedTensor b("b", DType::kCode, b_dims);
  OwnedTensor y("y", DType::kCode, joint);
  for (OwnedTensor* tensor : {&a, &b, &y}) test::pick_quantization(random, tensor->view());
  std::vector<uint8_t> a_bytes(a.size());
  std::vector<uint8_t> b_bytes(b.size());
  test::fill_bytes(random, a_bytes.data(), a_bytes.size());
  test::fill_bytes(random, b_bytes.data(), b_bytes.size());
  const auto prepare = [&] {
    std::memset(y.bytes(), 0xA5, y.size());
    std::copy(a_bytes.begin(), a_bytes.end(), a.bytes());
    std::copy(b_bytes.begin(), b_bytes.end(), b.bytes());
  };
  prepare();
  BinaryParams params;
  params.kind = random.pick(
      {BinaryKind::kAdd, BinaryKind::kSub, BinaryKind::kMul, BinaryKind::kMax, BinaryKind::kMin});
  test::pick_bounds(random, &params.lo, &params.hi);
  // What the op computes by itself, before a table.
  TensorView own = y.view();
  std::vector<int8_t> codes(256);
  test::fill_bytes(random, codes.data(), codes.size());
  if (random.one_in(3)) {
    test::pick_quantization(random, own);
    params.table = {true, own.scale, own.zero_point, test::blob_of(codes)};
  }
  std::vector<uint8_t> expected(y.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const auto centred = [&](OwnedTensor& tensor) {
      const size_t from = broadcast_index(y.view().shape, tensor.view().shape, i);
      return tensor.code(target.storage, from) - tensor.view().zero_point;
    };
    float v = 0;
    if (params.kind == BinaryKind::kMul) {
      const float scale = a.view().scale * b.view().scale;
      v = static_cast<float>(centred(a) * centred(b)) * (scale / own.scale);
    } else {
      const float part_a = static_cast<float>(centred(a)) * (a.view().scale / own.scale);
      const float part_b = static_cast<float>(centred(b)) * (b.view().scale / own.scale);
      v = params.kind == BinaryKind::kAdd   ? part_a + part_b
          : params.kind == BinaryKind::kSub ? part_a - part_b
          : params.kind == BinaryKind::kMax ? std::max(part_a, part_b)
                                            : std::min(part_a, part_b);
    }
    int64_t code = test::round_to_code(v, own.zero_point, params.lo, params.hi);
    if (params.table.present) code = codes[static_cast<size_t>(code + 128)];
    expected[i] = test::to_stored(code, target.storage);
  }
  if (a_dims == joint && random.one_in(3)) {
    y.share(a);
  } else if (b_dims == joint && random.one_in(3)) {
    y.share(b);
  }
  params.a = a.view();
  params.b = b.view();
  params.output = y.view();
  std::string error;
  const std::unique_ptr<Op> op = make_binary(params, target, &error);
  EDGEKIT_CHECK(op != nullptr, error);
  if (op == nullptr) return;
  test::check_runs(random, *op, y, expected,
                   "kind " + std::to_string(static_cast<int>(params.kind)) + " of " +
                       std::to_string(expected.size()),
                   prepare);
}

EDGEKIT_TEST(binary_equals_the_definition) {
  for (const PlanTarget& target : kTargets) {
    Random random(test::seed());
    for (int i = 0; i < kCases; ++i) {
      check_binary(random, target);
      test::count_case(target.isa);
    }
  }
}

EDGEKIT_TEST(binary_refuses_what_does_not_fit) {
  OwnedTensor a("a", DType::kCode, {2, 3});
  OwnedTensor b("b", DType::kCode, {3});
  OwnedTensor y("y", DType::kCode, {2, 3});
  BinaryParams params;
  params.a = a.view();
  params.b = b.view();
  params.output = y.view();
  std::string error;
  EDGEKIT_CHECK(make_binary(params, kTargets[0], &error) != nullptr, error);
  BinaryParams wrong = params;
  wrong.b.shape.dims[0] = 2;
  test::check_refused(make_binary(wrong, kTargets[0], &error), error, "broadcast");
  wrong = params;
  wrong.output.shape.dims[0] = 1;
  test::check_refused(make_binary(wrong, kTargets[0], &error), error, "broadcast");
  wrong = params;
  wrong.output.shape.rank = 1;
  test::check_refused(make_binary(wrong, kTargets[0], &error), error, "broadcast");
  wrong = params;
  wrong.kind = static_cast<BinaryKind>(9);
  test::check_refused(make_binary(wrong, kTargets[0], &error), error, "kind");
  wrong = params;
  wrong.lo = -129;
  test::check_refused(make_binary(wrong, kTargets[0], &error), error, "bounds");
  wrong = params;
  wrong.output.data = b.view().data;
  test::check_refused(make_binary(wrong, kTargets[0], &error), error, "overlap");
  wrong = params;
  wrong.b.dtype = DType::kInt32;
  test::check_refused(make_binary(wrong, kTargets[0], &error), error, "int8 codes");
}

void check_tables(Random& random, const PlanTarget& target) {
  const std::vector<int64_t> dims = {random.integer(1, 3), random.integer(1, 1500)};
  OwnedTensor x("x", DType::kCode, dims);
  OwnedTensor y("y", DType::kCode, dims);
  test::pick_quantization(random, x.view());
  test::pick_quantization(random, y.view());
  if (random.one_in(2)) y.share(x);
  std::vector<uint8_t> bytes(x.size());
  test::fill_bytes(random, bytes.data(), bytes.size());
  const auto prepare = [&] {
    std::memset(y.bytes(), 0xA5, y.size());
    std::copy(bytes.begin(), bytes.end(), x.bytes());
  };
  prepare();
  int8_t table[256];
  test::fill_bytes(random, table, 256);
  int32_t lo = 0;
  int32_t hi = 0;
  test::pick_bounds(random, &lo, &hi);
  std::vector<uint8_t> looked_up(x.size());
  std::vector<uint8_t> requantized(x.size());
  const float multiplier = x.view().scale / y.view().scale;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const int32_t code = x.code(target.storage, i);
    looked_up[i] = test::to_stored(table[code + 128], target.storage);
    const float v = static_cast<float>(code - x.view().zero_point) * multiplier;
    requantized[i] =
        test::to_stored(test::round_to_code(v, y.view().zero_point, lo, hi), target.storage);
  }
  std::string error;
  const Blob blob = {reinterpret_cast<const uint8_t*>(table), 256};
  const std::unique_ptr<Op> lookup = make_lookup({x.view(), y.view(), blob}, target, &error);
  EDGEKIT_CHECK(lookup != nullptr, error);
  test::check_runs(random, *lookup, y, looked_up, "lookup", prepare);
  const std::unique_ptr<Op> change = make_requantize({x.view(), y.view(), lo, hi}, target, &error);
  EDGEKIT_CHECK(change != nullptr, error);
  test::check_runs(random, *change, y, requantized, "requantize", prepare);
}

EDGEKIT_TEST(lookup_and_requantize_equal_the_definition) {
  for (const PlanTarget& target : kTargets) {
    Random random(test::seed());
    for (int i = 0; i < kCases; ++i) {
      check_tables(random, target);
      test::count_case(target.isa);
    }
  }
}

EDGEKIT_TEST(lookup_and_requantize_refuse_what_does_not_fit) {
  OwnedTensor x("x", DType::kCode, {2, 3});
  OwnedTensor y("y", DType::kCode, {2, 3});
  const int8_t table[256] = {};
  LookupParams params = {x.view(), y.view(), {reinterpret_cast<const uint8_t*>(table), 256}};
  std::string error;
  EDGEKIT_CHECK(make_lookup(params, kTargets[0], &error) != nullptr, error);
  params.table.size = 255;
  test::check_refused(make_lookup(params, kTargets[0], &error), error, "table holds");
  RequantizeParams change = {x.view(), y.view(), -128, 127};
  change.output.shape.dims[1] = 4;
  test::check_refused(make_requantize(change, kTargets[0], &error), error, "different shapes");
  change.output.shape.dims[1] = 3;
  change.lo = 128;
  test::check_refused(make_requantize(change, kTargets[0], &error), error, "bounds");
}

/// Draws a float32 tensor and the shape of its codes, with channels last or not.
void check_quantize(Random& random, const PlanTarget& target) {
  const bool channels_last = random.one_in(2);
  std::vector<int64_t> dims = {random.integer(1, 2), random.integer(1, 4), random.integer(1, 40),
                               random.integer(1, 60)};
  if (random.one_in(3)) dims.resize(random.size(2, 3));
  std::vector<int64_t> last = dims;
  if (channels_last) {
    last.erase(last.begin() + 1);
    last.push_back(dims[1]);
  }
  OwnedTensor real("real", DType::kFloat32, dims);
  OwnedTensor codes("codes", DType::kCode, last);
  OwnedTensor back("back", DType::kFloat32, dims);
  codes.view().channels_last = channels_last;
  real.view().external = back.view().external = true;
  test::pick_quantization(random, codes.view());
  const float scale = codes.view().scale;
  const int32_t zero_point = codes.view().zero_point;
  const size_t count = codes.size();
  const size_t channels = channels_last ? static_cast<size_t>(dims[1]) : 1;
  const size_t pixels = channels_last ? count / channels / static_cast<size_t>(dims[0]) : count;
  std::vector<uint8_t> expected(count);
  std::vector<uint8_t> expected_back(count * sizeof(float));
  float* x = reinterpret_cast<float*>(real.bytes());
  for (size_t i = 0; i < count; ++i) {
    x[i] = random.one_in(20) ? random.pick<float>({NAN, HUGE_VALF, -HUGE_VALF})
                             : scale * 0.5f * static_cast<float>(random.integer(-300, 300));
    const size_t image = i / (channels * pixels);
    const size_t to = (image * pixels + i % pixels) * channels + i / pixels % channels;
    const int64_t code = test::round_to_code(x[i] / scale, zero_point, -128, 127);
    expected[to] = test::to_stored(code, target.storage);
    const float v = static_cast<float>(code - zero_point) * scale;
    std::memcpy(&expected_back[i * sizeof(float)], &v, sizeof v);
  }
  std::string error;
  const std::unique_ptr<Op> quantize = make_quantize({real.view(), codes.view()}, target, &error);
  EDGEKIT_CHECK(quantize != nullptr, error);
  test::check_runs(random, *quantize, codes, expected, "quantize");
  std::copy(expected.begin(), expected.end(), codes.bytes());
  const std::unique_ptr<Op> dequantize =
      make_dequantize({codes.view(), back.view()}, target, &error);
  EDGEKIT_CHECK(dequantize != nullptr, error);
  test::check_runs(random, *dequantize, back, expected_back, "dequantize");
}

EDGEKIT_TEST(quantize_and_dequantize_equal_the_definition) {
  for (const PlanTarget& target : kTargets) {
    Random random(test::seed());
    for (int i = 0; i < kCases; ++i) {
      check_quantize(random, target);
      test::count_case(target.isa);
    }
  }
}

EDGEKIT_TEST(quantize_refuses_what_does_not_fit) {
  OwnedTensor real("real", DType::kFloat32, {1, 3, 4, 5});
  OwnedTensor codes("codes", DType::kCode, {1, 4, 5, 3});
  std::string error;
  test::check_refused(make_quantize({real.view(), codes.view()}, kTargets[0], &error), error,
                      "different shapes");
  codes.view().channels_last = true;
  EDGEKIT_CHECK(make_quantize({real.view(), codes.view()}, kTargets[0], &error) != nullptr, error);
  QuantizeParams params = {real.view(), codes.view()};
  std::swap(params.output.shape.dims[1], params.output.shape.dims[2]);
  test::check_refused(make_quantize(params, kTargets[0], &error), error, "channels-last");
  params = {real.view(), codes.view()};
  params.input.shape.rank = params.output.shape.rank = 1;
  test::check_refused(make_quantize(params, kTargets[0], &error), error, "channels-last");
  params = {real.view(), codes.view()};
  params.input.dtype = DType::kInt32;
  test::check_refused(make_quantize(params, kTargets[0], &error), error, "float32");
  params = {real.view(), codes.view()};
  params.output.data = params.input.data;
  test::check_refused(make_quantize(params, kTargets[0], &error), error, "overlap");
}

EDGEKIT_TEST(quantize_parts_equals_the_definition_however_it_is_cut) {
  for (const PlanTarget& target : kTargets) {
    Random random(test::seed());
    for (int i = 0; i < kCases; ++i) {
      const int64_t rows = random.integer(1, 300);
      const int64_t width = random.integer(1, 60);
      const int64_t parts = random.integer(2, 3);
      OwnedTensor real("real", DType::kFloat32, {rows, 1, width});
      OwnedTensor codes("codes", DType::kCode, {rows, 1, width * parts});
      codes.view().scale = 0.25f;
      codes.view().zero_point = static_cast<int32_t>(random.integer(-112, 111));
      auto* x = reinterpret_cast<float*>(real.bytes());
      for (int64_t e = 0; e < rows * width; ++e) {
        x[e] = static_cast<float>(random.integer(-4000, 4000)) / 64.0f;
      }
      std::vector<uint8_t> expected(codes.size());
      QuantizePartsArgs args = {};
      args.rows = static_cast<size_t>(rows);
      args.width = static_cast<size_t>(width);
      args.parts = static_cast<size_t>(parts);
      args.x = x;
      args.y = expected.data();
      args.inverse = 4;
      args.zero_point = codes.view().zero_point + storage_offset(target.storage);
      args.lo = static_cast<float>(-128 - codes.view().zero_point);
      args.hi = static_cast<float>(127 - codes.view().zero_point);
      reference_run(args, target.storage);
      std::string error;
      const std::unique_ptr<Op> op =
          make_quantize_parts({real.view(), codes.view()}, target, &error);
      EDGEKIT_CHECK(op != nullptr, error);
      test::check_runs(random, *op, codes, expected, "quantize_parts");
      test::count_case(target.isa);
    }
  }
}

EDGEKIT_TEST(quantize_parts_refuses_what_does_not_fit) {
  OwnedTensor real("real", DType::kFloat32, {1, 4, 5});
  OwnedTensor codes("codes", DType::kCode, {1, 4, 15});
  std::string error;
  const QuantizePartsParams good = {real.view(), codes.view()};
  EDGEKIT_CHECK(make_quantize_parts(good, kTargets[0], &error) != nullptr, error);
  const auto refused = [&](const char* reason, auto change) {
    QuantizePartsParams params = good;
    change(params);
    test::check_refused(make_quantize_parts(params, kTargets[0], &error), error, reason);
  };
  refused("2 or 3 parts", [](auto& p) { p.output.shape.dims[2] = 20; });
  refused("2 or 3 parts", [](auto& p) { p.output.shape.dims[2] = 5; });
  refused("2 or 3 parts", [](auto& p) { p.output.shape.dims[1] = 8; });
  refused("2 or 3 parts", [](auto& p) { p.output.shape.rank = 2; });
  refused("float32", [](auto& p) { p.input.dtype = DType::kInt32; });
  refused("no room", [](auto& p) { p.output.zero_point = -113; });
  refused("no room", [](auto& p) { p.output.zero_point = 112; });
  refused("no room", [](auto& p) { p.lo = 1; });
  refused("overlap", [](auto& p) { p.output.data = p.input.data; });
}

/// Softmax of docs/arithmetic.md, an element at a time.
void check_softmax(Random& random, const PlanTarget& target) {
  const std::vector<int64_t> dims = {random.integer(1, 5), random.integer(1, 300)};
  OwnedTensor x("x", DType::kCode, dims);
  OwnedTensor y("y", DType::kCode, dims);
  test::pick_quantization(random, x.view());
  y.view().scale = random.pick<float>({1.0f / 256, 1.0f, 0x1p-17f, 0.0123f});
  y.view().zero_point = static_cast<int32_t>(random.pick<int64_t>({-128, 0, 127}));
  if (random.one_in(2)) y.share(x);
  uint32_t table[256];
  for (int d = 0; d < 256; ++d) {
    table[d] = static_cast<uint32_t>(
        std::nearbyint(0x1p30 * std::exp(-static_cast<double>(x.view().scale) * d)));
  }
  std::vector<uint8_t> bytes(x.size());
  test::fill_bytes(random, bytes.data(), bytes.size());
  const auto prepare = [&] {
    std::memset(y.bytes(), 0xA5, y.size());
    std::copy(bytes.begin(), bytes.end(), x.bytes());
  };
  prepare();
  std::vector<uint8_t> expected(x.size());
  const size_t n = static_cast<size_t>(dims[1]);
  for (size_t first = 0; first < expected.size(); first += n) {
    int32_t top = -128;
    for (size_t i = 0; i < n; ++i) top = std::max(top, x.code(target.storage, first + i));
    uint64_t sum = 0;
    for (size_t i = 0; i < n; ++i) sum += table[top - x.code(target.storage, first + i)];
    const uint64_t ratio = static_cast<uint64_t>(std::nearbyint(65536.0 / y.view().scale));
    for (size_t i = 0; i < n; ++i) {
      const uint64_t product = table[top - x.code(target.storage, first + i)] * ratio;
      const uint64_t rest = product % (sum << 16);
      uint64_t t = product / (sum << 16);
      const uint64_t gap = (sum << 16) - rest;
      if (rest > gap || (rest == gap && (t & 1) != 0)) ++t;
      const int64_t code = y.view().zero_point + static_cast<int64_t>(t);
      expected[first + i] = test::to_stored(std::min<int64_t>(code, 127), target.storage);
    }
  }
  std::string error;
  const Blob blob = {reinterpret_cast<const uint8_t*>(table), sizeof table};
  const std::unique_ptr<Op> op = make_softmax({x.view(), y.view(), blob}, target, &error);
  EDGEKIT_CHECK(op != nullptr, error);
  test::check_runs(random, *op, y, expected, "softmax", prepare);
}

EDGEKIT_TEST(softmax_equals_the_definition) {
  for (const PlanTarget& target : kTargets) {
    Random random(test::seed());
    for (int i = 0; i < kCases; ++i) {
      check_softmax(random, target);
      test::count_case(target.isa);
    }
  }
}

EDGEKIT_TEST(softmax_refuses_what_does_not_fit) {
  OwnedTensor x("x", DType::kCode, {2, 3});
  OwnedTensor y("y", DType::kCode, {2, 3});
  OwnedTensor wide("wide", DType::kCode, {(1 << 17) + 1});
  uint32_t table[256] = {1 << 30};
  SoftmaxParams params = {x.view(), y.view(), {reinterpret_cast<uint8_t*>(table), sizeof table}};
  std::string error;
  EDGEKIT_CHECK(make_softmax(params, kTargets[0], &error) != nullptr, error);
  SoftmaxParams wrong = params;
  wrong.output.scale = 2;
  test::check_refused(make_softmax(wrong, kTargets[0], &error), error, "2^-17");
  wrong = params;
  wrong.table.size = 256;
  test::check_refused(make_softmax(wrong, kTargets[0], &error), error, "table holds");
  wrong = params;
  wrong.input = wrong.output = wide.view();
  test::check_refused(make_softmax(wrong, kTargets[0], &error), error, "exceeds");
  wrong = params;
  wrong.input.shape.rank = wrong.output.shape.rank = 0;
  test::check_refused(make_softmax(wrong, kTargets[0], &error), error, "last dimension");
  table[7] = (1u << 30) + 1;
  test::check_refused(make_softmax(params, kTargets[0], &error), error, "entry 7");
  table[7] = table[0] = 0;
  test::check_refused(make_softmax(params, kTargets[0], &error), error, "entry 0");
}

}  // namespace
}  // namespace edgekit
