#include <functional>
#include <string>
#include <vector>

#include "op_harness.h"
#include "ops/concat.h"
#include "ops/move.h"
#include "random_codes.h"

// Reshape, transpose, pad, slice and concat, in both storages and several types.

namespace edgekit {
namespace {

using test::OwnedTensor;
using test::Random;

constexpr int kCases = 200;
constexpr PlanTarget kTargets[] = {{Isa::kGeneric, Storage::kS8}, {Isa::kGeneric, Storage::kU8}};

DType pick_type(Random& random) {
  return random.one_in(2) ? DType::kCode
                          : random.pick({DType::kFloat32, DType::kInt64, DType::kBool});
}

std::vector<int64_t> pick_dims(Random& random, size_t least_rank) {
  std::vector<int64_t> dims(random.size(least_rank, 5));
  const bool long_rows = random.one_in(5);
  for (int64_t& dim : dims) dim = random.integer(1, long_rows ? 3 : 7);
  if (!dims.empty() && long_rows) dims.back() = random.integer(1000, 2100);
  return dims;
}

/// Returns the indices of element `index` of a shape.
std::vector<int64_t> unravel(const std::vector<int64_t>& dims, size_t index) {
  std::vector<int64_t> indices(dims.size());
  for (size_t i = dims.size(); i-- > 0;) {
    indices[i] = static_cast<int64_t>(index) % dims[i];
    index /= static_cast<size_t>(dims[i]);
  }
  return indices;
}

size_t ravel(const std::vector<int64_t>& dims, const std::vector<int64_t>& indices) {
  int64_t index = 0;
  for (size_t i = 0; i < dims.size(); ++i) index = index * dims[i] + indices[i];
  return static_cast<size_t>(index);
}

/// Builds the output's bytes: from(indices, &source) says which element of x comes to an index, or
/// returns false for the fill.
std::vector<uint8_t> gather(OwnedTensor& x, const std::vector<int64_t>& dims, uint8_t fill,
                            const std::function<bool(std::vector<int64_t>, size_t*)>& from) {
  const size_t size = dtype_size(x.view().dtype);
  size_t count = 1;
  for (const int64_t dim : dims) count *= static_cast<size_t>(dim);
  std::vector<uint8_t> bytes(count * size, fill);
  for (size_t i = 0; i < count; ++i) {
    size_t source = 0;
    if (from(unravel(dims, i), &source)) {
      std::memcpy(&bytes[i * size], x.bytes() + source * size, size);
    }
  }
  return bytes;
}

void check_op(Random& random, const std::unique_ptr<Op>& op, const std::string& error,
              OwnedTensor& y, const std::vector<uint8_t>& expected, const char* what) {
  EDGEKIT_CHECK(op != nullptr, std::string(what) + ": " + error);
  if (op != nullptr) test::check_runs(random, *op, y, expected, what);
}

void check_transpose(Random& random, const PlanTarget& target) {
  const std::vector<int64_t> dims = pick_dims(random, 0);
  TransposeParams params;
  for (uint32_t i = 0; i < dims.size(); ++i) params.permutation.push_back(i);
  for (size_t i = dims.size(); i > 1; --i) {
    std::swap(params.permutation[i - 1], params.permutation[random.size(0, i - 1)]);
  }
  std::vector<int64_t> out;
  for (const uint32_t from : params.permutation) out.push_back(dims[from]);
  const DType type = pick_type(random);
  OwnedTensor x("x", type, dims);
  OwnedTensor y("y", type, out);
  test::fill_bytes(random, x.bytes(), x.size());
  params.input = x.view();
  params.output = y.view();
  const auto expected = gather(x, out, 0, [&](std::vector<int64_t> to, size_t* source) {
    std::vector<int64_t> from(to.size());
    for (size_t i = 0; i < to.size(); ++i) from[params.permutation[i]] = to[i];
    *source = ravel(dims, from);
    return true;
  });
  std::string error;
  check_op(random, make_transpose(params, target, &error), error, y, expected, "transpose");
}

void check_reshape(Random& random, const PlanTarget& target) {
  const std::vector<int64_t> dims = pick_dims(random, 0);
  int64_t count = 1;
  for (const int64_t dim : dims) count *= dim;
  const DType type = pick_type(random);
  OwnedTensor x("x", type, dims);
  OwnedTensor y("y", type, {1, count});
  test::fill_bytes(random, x.bytes(), x.size());
  const std::vector<uint8_t> expected(x.bytes(), x.bytes() + x.size());
  std::string error;
  check_op(random, make_reshape({x.view(), y.view()}, target, &error), error, y, expected,
           "reshape");
  y.share(x);
  const std::unique_ptr<Op> in_place = make_reshape({x.view(), y.view()}, target, &error);
  EDGEKIT_CHECK(in_place != nullptr && in_place->units() == 0, "a reshape in place does nothing");
}

void check_pad(Random& random, const PlanTarget& target) {
  const std::vector<int64_t> dims = pick_dims(random, 0);
  std::vector<int64_t> out = dims;
  PadParams params;
  for (int64_t& dim : out) {
    for (int side = 0; side < 2; ++side) {
      params.pads.push_back(random.one_in(2) ? 0 : static_cast<uint32_t>(random.integer(1, 3)));
      dim += params.pads.back();
    }
  }
  const DType type = pick_type(random);
  OwnedTensor x("x", type, dims);
  OwnedTensor y("y", type, out);
  test::fill_bytes(random, x.bytes(), x.size());
  params.input = x.view();
  params.output = y.view();
  uint8_t fill = 0;
  if (type == DType::kCode) {
    params.value = static_cast<int32_t>(random.integer(-128, 127));
    fill = test::to_stored(params.value, target.storage);
  }
  const auto expected = gather(x, out, fill, [&](std::vector<int64_t> to, size_t* source) {
    for (size_t i = 0; i < to.size(); ++i) {
      to[i] -= params.pads[2 * i];
      if (to[i] < 0 || to[i] >= dims[i]) return false;
    }
    *source = ravel(dims, to);
    return true;
  });
  std::string error;
  check_op(random, make_pad(params, target, &error), error, y, expected, "pad");
}

void check_slice(Random& random, const PlanTarget& target) {
  const std::vector<int64_t> dims = pick_dims(random, 0);
  std::vector<int64_t> out;
  SliceParams params;
  for (const int64_t dim : dims) {
    const int64_t begin = random.integer(0, dim - 1);
    const int64_t step = random.pick<int64_t>({1, 1, 2, 5, -1, -2, 1000000});
    const int64_t most = (step > 0 ? (dim - 1 - begin) / step : begin / -step) + 1;
    params.begin.push_back(begin);
    params.step.push_back(step);
    out.push_back(random.one_in(2) ? most : random.integer(1, most));
  }
  const DType type = pick_type(random);
  OwnedTensor x("x", type, dims);
  OwnedTensor y("y", type, out);
  test::fill_bytes(random, x.bytes(), x.size());
  params.input = x.view();
  params.output = y.view();
  const auto expected = gather(x, out, 0, [&](std::vector<int64_t> to, size_t* source) {
    for (size_t i = 0; i < to.size(); ++i) to[i] = params.begin[i] + to[i] * params.step[i];
    *source = ravel(dims, to);
    return true;
  });
  std::string error;
  check_op(random, make_slice(params, target, &error), error, y, expected, "slice");
}

/// Returns the stored code of element `index` of x on the grid of y.
uint8_t requantized(OwnedTensor& x, size_t index, const TensorView& y, Storage storage) {
  const float v =
      static_cast<float>(x.code(storage, index) - x.view().zero_point) * (x.view().scale / y.scale);
  return test::to_stored(test::round_to_code(v, y.zero_point, -128, 127), storage);
}

void check_concat(Random& random, const PlanTarget& target) {
  const std::vector<int64_t> dims = pick_dims(random, 1);
  const DType type = pick_type(random);
  ConcatParams params;
  params.axis = static_cast<uint32_t>(random.size(0, dims.size() - 1));
  std::vector<std::unique_ptr<OwnedTensor>> inputs;
  std::vector<int64_t> out = dims;
  out[params.axis] = 0;
  for (size_t i = random.size(1, 4); i-- > 0;) {
    std::vector<int64_t> own = dims;
    own[params.axis] = random.integer(1, 5);
    out[params.axis] += own[params.axis];
    inputs.push_back(std::make_unique<OwnedTensor>("x", type, own));
    test::fill_bytes(random, inputs.back()->bytes(), inputs.back()->size());
  }
  OwnedTensor y("y", type, out);
  const size_t size = dtype_size(type);
  std::vector<uint8_t> expected(y.size());
  if (type == DType::kCode) test::pick_quantization(random, y.view());
  int64_t first = 0;
  for (const std::unique_ptr<OwnedTensor>& x : inputs) {
    const std::vector<int64_t> own(x->view().shape.dims, x->view().shape.dims + dims.size());
    x->view().scale = y.view().scale;
    x->view().zero_point = y.view().zero_point;
    const bool change = type == DType::kCode && random.one_in(2);
    if (change) test::pick_quantization(random, x->view());
    for (size_t i = 0; i < x->size() / size; ++i) {
      std::vector<int64_t> to = unravel(own, i);
      to[params.axis] += first;
      uint8_t* byte = &expected[ravel(out, to) * size];
      std::memcpy(byte, x->bytes() + i * size, size);
      if (change) *byte = requantized(*x, i, y.view(), target.storage);
    }
    first += own[params.axis];
    params.inputs.push_back(x->view());
  }
  params.output = y.view();
  std::string error;
  check_op(random, make_concat(params, target, &error), error, y, expected, "concat");
}

/// Images of which some have a whole fraction of the rows and columns.
void check_repeating_concat(Random& random, const PlanTarget& target) {
  const int64_t batch = random.integer(1, 2);
  const int64_t height = random.pick<int64_t>({1, 6, 12});
  const int64_t width = random.pick<int64_t>({1, 4, 12});
  const DType type = random.one_in(4) ? DType::kFloat32 : DType::kCode;
  std::vector<std::unique_ptr<OwnedTensor>> inputs;
  ConcatParams params;
  params.axis = 3;
  int64_t channels = 0;
  for (size_t i = random.size(1, 4); i-- > 0;) {
    int64_t rows = random.pick<int64_t>({1, 2, 3, 6, 12, height});
    int64_t columns = random.pick<int64_t>({1, 2, 4, 6, 12, width});
    if (height % rows != 0) rows = height;
    if (width % columns != 0) columns = width;
    const int64_t own = random.one_in(2) ? random.integer(1, 9) : random.integer(10, 70);
    inputs.push_back(
        std::make_unique<OwnedTensor>("x", type, std::vector<int64_t>{batch, rows, columns, own}));
    test::fill_bytes(random, inputs.back()->bytes(), inputs.back()->size());
    channels += own;
  }
  const std::vector<int64_t> out = {batch, height, width, channels};
  OwnedTensor y("y", type, out);
  const size_t size = dtype_size(type);
  std::vector<uint8_t> expected(y.size());
  if (type == DType::kCode) test::pick_quantization(random, y.view());
  int64_t first = 0;
  for (const std::unique_ptr<OwnedTensor>& x : inputs) {
    const int64_t* own = x->view().shape.dims;
    x->view().scale = y.view().scale;
    x->view().zero_point = y.view().zero_point;
    const bool change = type == DType::kCode && random.one_in(2);
    if (change) test::pick_quantization(random, x->view());
    const size_t pixels = expected.size() / size / static_cast<size_t>(channels);
    for (size_t i = 0; i < pixels; ++i) {
      const std::vector<int64_t> to = unravel({batch, height, width}, i);
      const size_t from =
          ravel({own[0], own[1], own[2]}, {to[0], to[1] * own[1] / height, to[2] * own[2] / width});
      for (int64_t c = 0; c < own[3]; ++c) {
        const size_t at = i * static_cast<size_t>(channels) + static_cast<size_t>(first + c);
        const size_t source = from * static_cast<size_t>(own[3]) + static_cast<size_t>(c);
        std::memcpy(&expected[at * size], x->bytes() + source * size, size);
        if (change) expected[at] = requantized(*x, source, y.view(), target.storage);
      }
    }
    first += own[3];
    params.inputs.push_back(x->view());
  }
  params.output = y.view();
  std::string error;
  check_op(random, make_concat(params, target, &error), error, y, expected, "repeating concat");
}

void for_each_target(void (*check)(Random&, const PlanTarget&)) {
  for (const PlanTarget& target : kTargets) {
    Random random(test::seed());
    for (int i = 0; i < kCases; ++i) {
      check(random, target);
      test::count_case(target.isa);
    }
  }
}

EDGEKIT_TEST(transposes_equal_the_definition) { for_each_target(check_transpose); }
EDGEKIT_TEST(reshapes_equal_the_definition) { for_each_target(check_reshape); }

EDGEKIT_TEST(codes_of_a_caller_are_int8_in_every_storage) {
  size_t count;
  const IsaInfo* table = isa_table(&count);
  for (size_t i = 0; i < count; ++i) {
    if (!isa_built(table[i].isa) || !isa_supported(table[i].isa)) continue;
    const PlanTarget target = {table[i].isa, table[i].storage};
    Random random(test::seed());
    for (int n = 0; n < kCases; ++n) {
      const size_t size = random.size(1, 700);
      OwnedTensor inner("inner", DType::kCode, {static_cast<int64_t>(size)});
      // Ends where its elements do, as a caller's memory may.
      test::GuardedBuffer<uint8_t> codes(size);
      uint8_t* address = codes.data();
      TensorView outer = inner.view();
      outer.name = "outer";
      outer.data = &address;
      outer.external = true;
      for (uint8_t& code : codes) code = static_cast<uint8_t>(random.integer(0, 255));
      const std::vector<uint8_t> given(codes.begin(), codes.end());
      std::string error;
      const auto take = make_reshape({outer, inner.view()}, target, &error);
      EDGEKIT_CHECK(take != nullptr, error);
      take->run(0, take->units(), nullptr);
      for (size_t k = 0; k < size; ++k) {
        EDGEKIT_CHECK(
            inner.bytes()[k] == test::to_stored(static_cast<int8_t>(given[k]), target.storage),
            "a code that is taken");
      }
      std::fill(codes.begin(), codes.end(), uint8_t{0});
      const auto give = make_reshape({inner.view(), outer}, target, &error);
      EDGEKIT_CHECK(give != nullptr, error);
      give->run(0, give->units(), nullptr);
      EDGEKIT_CHECK(std::equal(given.begin(), given.end(), codes.begin()), "codes that are given");
    }
  }
}
EDGEKIT_TEST(pads_equal_the_definition) { for_each_target(check_pad); }
EDGEKIT_TEST(slices_equal_the_definition) { for_each_target(check_slice); }
EDGEKIT_TEST(concats_equal_the_definition) { for_each_target(check_concat); }
EDGEKIT_TEST(concats_repeat_pixels) { for_each_target(check_repeating_concat); }

EDGEKIT_TEST(hostile_parameters_are_refused) {
  const PlanTarget target = kTargets[0];
  OwnedTensor x("x", DType::kCode, {2, 3});
  OwnedTensor y("y", DType::kCode, {3, 2});
  OwnedTensor z("z", DType::kCode, {2, 3});
  std::string error;

  test::check_refused(make_transpose({x.view(), y.view(), {0, 1}}, target, &error), error,
                      "permutation");
  test::check_refused(make_transpose({x.view(), y.view(), {1, 1}}, target, &error), error,
                      "permutation");
  test::check_refused(make_transpose({x.view(), y.view(), {1, 7}}, target, &error), error,
                      "permutation");
  test::check_refused(make_transpose({x.view(), y.view(), {1}}, target, &error), error,
                      "permutation");
  y.view().zero_point = 3;
  test::check_refused(make_transpose({x.view(), y.view(), {1, 0}}, target, &error), error,
                      "different scales");
  y.view().zero_point = 0;
  EDGEKIT_CHECK(make_transpose({x.view(), y.view(), {1, 0}}, target, &error) != nullptr, error);

  OwnedTensor longer("longer", DType::kCode, {7});
  test::check_refused(make_reshape({x.view(), longer.view()}, target, &error), error, "reshape");
  OwnedTensor floats("floats", DType::kFloat32, {6});
  test::check_refused(make_reshape({x.view(), floats.view()}, target, &error), error, "types");

  const uint32_t huge = 4294967295u;
  test::check_refused(make_pad({x.view(), z.view(), {0, 0, 0, 1}, 0}, target, &error), error,
                      "padding");
  test::check_refused(make_pad({x.view(), z.view(), {huge, 1, 0, 0}, 0}, target, &error), error,
                      "padding");
  test::check_refused(make_pad({x.view(), z.view(), {0, 0}, 0}, target, &error), error, "padding");
  test::check_refused(make_pad({x.view(), z.view(), {0, 0, 0, 0}, 128}, target, &error), error,
                      "filled with 128");

  const int64_t least = INT64_MIN;
  const int64_t most = INT64_MAX;
  const std::vector<std::pair<std::vector<int64_t>, std::vector<int64_t>>> slices = {
      {{0, 1}, {1, 1}},     {{0, 0}, {1, 0}}, {{0, 0}, {1, 2}},     {{0, 0}, {1, -1}},
      {{0, -1}, {1, 1}},    {{0, 3}, {1, 1}}, {{0, 2}, {1, least}}, {{0, 0}, {1, most}},
      {{0, least}, {1, 1}}, {{0}, {1}},
  };
  for (const auto& [begin, step] : slices) {
    test::check_refused(make_slice({x.view(), z.view(), begin, step}, target, &error), error,
                        "slice");
  }

  test::check_refused(make_concat({{}, y.view(), 0}, target, &error), error, "nothing to join");
  test::check_refused(make_concat({{x.view()}, z.view(), 2}, target, &error), error, "axis 2");
  test::check_refused(make_concat({{x.view(), x.view()}, z.view(), 0}, target, &error), error,
                      "have 4");
  test::check_refused(make_concat({{x.view()}, y.view(), 0}, target, &error), error,
                      "does not fit");
  OwnedTensor image("image", DType::kCode, {1, 4, 4, 2});
  for (const std::vector<int64_t>& dims :
       {std::vector<int64_t>{1, 3, 4, 2}, {1, 4, 3, 2}, {1, 8, 4, 2}, {2, 4, 4, 2}, {4, 4, 2}}) {
    OwnedTensor other("other", DType::kCode, dims);
    test::check_refused(make_concat({{other.view()}, image.view(), 3}, target, &error), error,
                        "does not fit");
  }
  OwnedTensor half("half", DType::kCode, {1, 2, 4, 4});
  OwnedTensor joined("joined", DType::kCode, {1, 4, 4, 4});
  test::check_refused(make_concat({{half.view()}, joined.view(), 2}, target, &error), error,
                      "does not fit");
  half.share(joined);
  test::check_refused(make_concat({{half.view()}, joined.view(), 3}, target, &error), error,
                      "overlap");
  // A tensor that lies where it belongs may stay there, no other.
  const std::unique_ptr<Op> nothing = make_concat({{x.view()}, x.view(), 0}, target, &error);
  EDGEKIT_CHECK(nothing != nullptr && nothing->units() == 0, error);
  uint8_t* shifted = x.bytes() + 1;
  TensorView moved = x.view();
  moved.data = &shifted;
  test::check_refused(make_concat({{moved}, x.view(), 0}, target, &error), error, "overlap");
  moved = x.view();
  moved.scale *= 2;
  test::check_refused(make_concat({{moved}, x.view(), 0}, target, &error), error, "overlap");
}

}  // namespace
}  // namespace edgekit
