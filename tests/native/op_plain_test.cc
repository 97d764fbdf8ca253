#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "op_harness.h"
#include "ops/arg_extreme.h"
#include "ops/cast.h"
#include "ops/compare.h"
#include "ops/gather.h"
#include "ops/integer_binary.h"
#include "ops/move.h"
#include "random_codes.h"

// Ops on plain numbers: rows by their numbers, types, comparisons, choices, whole numbers, places.

namespace edgekit {
namespace {

using test::OwnedTensor;
using test::Random;

constexpr PlanTarget kTarget = {Isa::kGeneric, Storage::kU8};
constexpr DType kTypes[] = {DType::kCode,  DType::kInt32, DType::kFloat32,
                            DType::kInt64, DType::kUInt8, DType::kBool};

template <typename T>
T* values(OwnedTensor& tensor) {
  return reinterpret_cast<T*>(tensor.bytes());
}

template <typename T>
std::vector<uint8_t> bytes_of(const std::vector<T>& numbers) {
  std::vector<uint8_t> bytes(numbers.size() * sizeof(T));
  std::memcpy(bytes.data(), numbers.data(), bytes.size());
  return bytes;
}

void fill(Random& random, OwnedTensor& tensor) {
  for (size_t i = 0; i < tensor.size(); ++i) {
    tensor.bytes()[i] = static_cast<uint8_t>(random.integer(0, 255));
  }
}

EDGEKIT_TEST(rows_are_found_by_number_from_either_end_and_never_outside) {
  Random random(test::seed());
  for (const DType type : kTypes) {
    for (const bool wide : {false, true}) {
      OwnedTensor x("x", type, {2, 5, 3});
      OwnedTensor places("places", wide ? DType::kInt64 : DType::kInt32, {2, 4});
      OwnedTensor y("y", type, {2, 2, 4, 3});
      fill(random, x);
      const int64_t given[] = {0,
                               4,
                               -1,
                               -5,
                               5,
                               -6,
                               std::numeric_limits<int32_t>::min(),
                               std::numeric_limits<int32_t>::max()};
      const size_t meant[] = {0, 4, 4, 0, 4, 0, 0, 4};
      for (size_t i = 0; i < 8; ++i) {
        if (wide) {
          values<int64_t>(places)[i] = given[i];
        } else {
          values<int32_t>(places)[i] = static_cast<int32_t>(given[i]);
        }
      }
      const size_t row = 3 * dtype_size(type);
      std::vector<uint8_t> expected;
      for (size_t outer = 0; outer < 2; ++outer) {
        for (const size_t place : meant) {
          const uint8_t* from = x.bytes() + (outer * 5 + place) * row;
          expected.insert(expected.end(), from, from + row);
        }
      }
      std::string error;
      GatherParams params{x.view(), places.view(), y.view(), 1};
      const auto op = make_gather(params, kTarget, &error);
      EDGEKIT_CHECK(op != nullptr, error);
      if (op != nullptr) test::check_runs(random, *op, y, expected, "gather");
      params.axis = 3;
      test::check_refused(make_gather(params, kTarget, &error), error, "along this axis");
      params.axis = 0;
      test::check_refused(make_gather(params, kTarget, &error), error, "along this axis");
      params.axis = 1;
      params.indices.dtype = DType::kFloat32;
      test::check_refused(make_gather(params, kTarget, &error), error, "int32 or int64");
    }
  }
}

EDGEKIT_TEST(expansion_repeats_as_numpy_does) {
  Random random(test::seed());
  for (const DType type : kTypes) {
    OwnedTensor x("x", type, {3, 1, 2});
    OwnedTensor y("y", type, {2, 3, 4, 2});
    fill(random, x);
    const size_t pair = 2 * dtype_size(type);
    std::vector<uint8_t> expected;
    for (size_t i = 0; i < 2 * 3 * 4; ++i) {
      const uint8_t* from = x.bytes() + i / 4 % 3 * pair;
      expected.insert(expected.end(), from, from + pair);
    }
    std::string error;
    const auto op = make_expand({x.view(), y.view()}, kTarget, &error);
    EDGEKIT_CHECK(op != nullptr, error);
    if (op != nullptr) test::check_runs(random, *op, y, expected, "expand");
    OwnedTensor other("other", type, {2, 2, 4, 2});
    test::check_refused(make_expand({x.view(), other.view()}, kTarget, &error), error, "expansion");
    test::check_refused(make_expand({y.view(), x.view()}, kTarget, &error), error, "expansion");
  }
}

template <typename From, typename To>
void check_cast(DType from, DType to, const std::vector<From>& given,
                const std::vector<To>& wanted) {
  Random random(test::seed());
  const auto size = static_cast<int64_t>(given.size());
  OwnedTensor x("x", from, {size});
  OwnedTensor y("y", to, {size});
  std::copy(given.begin(), given.end(), values<From>(x));
  std::string error;
  const auto op = make_cast({x.view(), y.view()}, kTarget, &error);
  EDGEKIT_CHECK(op != nullptr, error);
  if (op != nullptr) test::check_runs(random, *op, y, bytes_of(wanted), "cast");
}

EDGEKIT_TEST(numbers_change_their_type_at_the_ends_too) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr auto kMost32 = std::numeric_limits<int32_t>::max();
  constexpr auto kLeast32 = std::numeric_limits<int32_t>::min();
  constexpr auto kMost64 = std::numeric_limits<int64_t>::max();
  constexpr auto kLeast64 = std::numeric_limits<int64_t>::min();
  const std::vector<float> reals = {1.9F, -1.9F, -0.5F, NAN, kInfinity, -kInfinity, 3e9F, 300.F};
  check_cast<float, int32_t>(DType::kFloat32, DType::kInt32, reals,
                             {1, -1, 0, 0, kMost32, kLeast32, kMost32, 300});
  check_cast<float, int64_t>(DType::kFloat32, DType::kInt64, reals,
                             {1, -1, 0, 0, kMost64, kLeast64, 3000000000, 300});
  check_cast<float, uint8_t>(DType::kFloat32, DType::kUInt8, reals, {1, 0, 0, 0, 255, 0, 255, 255});
  check_cast<float, uint8_t>(DType::kFloat32, DType::kBool, {0.F, -0.F, 0.25F, NAN}, {0, 0, 1, 1});
  check_cast<int64_t, float>(DType::kInt64, DType::kFloat32, {16777217, -3, kLeast64},
                             {16777216.F, -3.F, -9223372036854775808.F});
  check_cast<int64_t, int32_t>(DType::kInt64, DType::kInt32, {(int64_t{1} << 32) + 7, -1}, {7, -1});
  check_cast<int64_t, uint8_t>(DType::kInt64, DType::kBool, {256, 0}, {1, 0});
  check_cast<uint8_t, float>(DType::kBool, DType::kFloat32, {0, 1, 7}, {0.F, 1.F, 1.F});
  OwnedTensor codes("codes", DType::kCode, {4});
  OwnedTensor reals_out("y", DType::kFloat32, {4});
  std::string error;
  test::check_refused(make_cast({codes.view(), reals_out.view()}, kTarget, &error), error,
                      "can't be made");
}

EDGEKIT_TEST(comparisons_are_false_of_nan) {
  Random random(test::seed());
  OwnedTensor a("a", DType::kFloat32, {5});
  OwnedTensor b("b", DType::kFloat32, {1});
  OwnedTensor y("y", DType::kBool, {5});
  const float given[] = {1.F, 2.F, 3.F, NAN, -0.F};
  std::copy(given, given + 5, values<float>(a));
  values<float>(b)[0] = 2.F;
  const struct {
    Comparison comparison;
    std::vector<uint8_t> expected;
  } rules[] = {{Comparison::kEqual, {0, 1, 0, 0, 0}},
               {Comparison::kLess, {1, 0, 0, 0, 1}},
               {Comparison::kLessOrEqual, {1, 1, 0, 0, 1}}};
  std::string error;
  for (const auto& rule : rules) {
    const auto op = make_compare({rule.comparison, a.view(), b.view(), y.view()}, kTarget, &error);
    EDGEKIT_CHECK(op != nullptr, error);
    if (op != nullptr) test::check_runs(random, *op, y, rule.expected, "comparison");
  }
  CompareParams params{Comparison::kEqual, a.view(), b.view(), y.view()};
  params.comparison = static_cast<Comparison>(3);
  test::check_refused(make_compare(params, kTarget, &error), error, "of one type");
  params.comparison = Comparison::kEqual;
  params.b.dtype = DType::kInt32;
  test::check_refused(make_compare(params, kTarget, &error), error, "of one type");
  OwnedTensor three("three", DType::kFloat32, {3});
  test::check_refused(
      make_compare({Comparison::kEqual, a.view(), three.view(), y.view()}, kTarget, &error), error,
      "single number");
}

EDGEKIT_TEST(choices_move_elements_of_any_type) {
  Random random(test::seed());
  for (const DType type : kTypes) {
    OwnedTensor condition("condition", DType::kBool, {2, 3});
    OwnedTensor a("a", type, {2, 3});
    OwnedTensor b("b", type, {1, 1});
    OwnedTensor y("y", type, {2, 3});
    fill(random, a);
    fill(random, b);
    const uint8_t given[] = {0, 1, 255, 0, 0, 2};
    std::copy(given, given + 6, condition.bytes());
    const size_t size = dtype_size(type);
    std::vector<uint8_t> expected;
    for (size_t i = 0; i < 6; ++i) {
      const uint8_t* from = given[i] != 0 ? a.bytes() + i * size : b.bytes();
      expected.insert(expected.end(), from, from + size);
    }
    std::string error;
    WhereParams params{condition.view(), a.view(), b.view(), y.view()};
    const auto op = make_where(params, kTarget, &error);
    EDGEKIT_CHECK(op != nullptr, error);
    if (op != nullptr) test::check_runs(random, *op, y, expected, "where");
    params.condition.dtype = DType::kUInt8;
    test::check_refused(make_where(params, kTarget, &error), error, "must be bool");
  }
}

template <typename T>
void check_integers(DType type, IntegerOperator op, const std::vector<T>& a,
                    const std::vector<T>& b, const std::vector<T>& wanted) {
  Random random(test::seed());
  const auto size = static_cast<int64_t>(a.size());
  OwnedTensor left("a", type, {size});
  OwnedTensor right("b", type, {size});
  OwnedTensor y("y", type, {size});
  std::copy(a.begin(), a.end(), values<T>(left));
  std::copy(b.begin(), b.end(), values<T>(right));
  std::string error;
  const auto made = make_integer_binary({op, left.view(), right.view(), y.view()}, kTarget, &error);
  EDGEKIT_CHECK(made != nullptr, error);
  if (made != nullptr) {
    test::check_runs(random, *made, y, bytes_of(wanted),
                     "operator " + std::to_string(static_cast<int>(op)));
  }
}

EDGEKIT_TEST(whole_numbers_wrap_around_and_divide_by_nothing) {
  constexpr auto kMost = std::numeric_limits<int32_t>::max();
  constexpr auto kLeast = std::numeric_limits<int32_t>::min();
  constexpr auto kLeast64 = std::numeric_limits<int64_t>::min();
  using Op = IntegerOperator;
  const auto ints = [](Op op, const std::vector<int32_t>& a, const std::vector<int32_t>& b,
                       const std::vector<int32_t>& y) {
    check_integers<int32_t>(DType::kInt32, op, a, b, y);
  };
  ints(Op::kAdd, {kMost, 1}, {1, -2}, {kLeast, -1});
  ints(Op::kSub, {kLeast, 1}, {1, 2}, {kMost, -1});
  ints(Op::kMul, {65536, -3}, {65536, 5}, {0, -15});
  ints(Op::kDiv, {7, -7, 7, 5, kLeast}, {2, 2, -2, 0, -1}, {3, -3, -3, 0, kLeast});
  ints(Op::kMod, {7, -7, 7, 5, kLeast, -6}, {3, 3, -3, 0, -1, 3}, {1, 2, -2, 0, 0, 0});
  ints(Op::kMax, {1, -5}, {2, -6}, {2, -5});
  ints(Op::kMin, {1, -5}, {2, -6}, {1, -6});
  ints(Op::kXor, {5}, {3}, {6});
  check_integers<int64_t>(DType::kInt64, Op::kDiv, {kLeast64, 9}, {-1, 0}, {kLeast64, 0});
  check_integers<int64_t>(DType::kInt64, Op::kMod, {kLeast64, -9}, {-1, 4}, {0, 3});
  check_integers<uint8_t>(DType::kUInt8, Op::kSub, {1, 200}, {2, 100}, {255, 100});
  check_integers<uint8_t>(DType::kUInt8, Op::kMul, {16, 255}, {16, 255}, {0, 1});
  check_integers<uint8_t>(DType::kBool, Op::kAnd, {2, 1, 0}, {1, 0, 0}, {1, 0, 0});
  check_integers<uint8_t>(DType::kBool, Op::kOr, {2, 0}, {1, 0}, {1, 0});
  check_integers<uint8_t>(DType::kBool, Op::kXor, {2, 1}, {0, 7}, {1, 0});
  OwnedTensor x("x", DType::kBool, {2});
  OwnedTensor y("y", DType::kBool, {2});
  std::string error;
  test::check_refused(
      make_integer_binary({Op::kAdd, x.view(), x.view(), y.view()}, kTarget, &error), error,
      "not of a type");
  test::check_refused(
      make_integer_binary({static_cast<Op>(10), x.view(), x.view(), y.view()}, kTarget, &error),
      error, "not of a type");
  OwnedTensor real("real", DType::kFloat32, {2});
  OwnedTensor sum("sum", DType::kFloat32, {2});
  test::check_refused(
      make_integer_binary({Op::kAdd, real.view(), real.view(), sum.view()}, kTarget, &error), error,
      "whole numbers");
}

EDGEKIT_TEST(extremes_are_found_first_or_last) {
  Random random(test::seed());
  OwnedTensor x("x", DType::kFloat32, {2, 3, 2});
  OwnedTensor y("y", DType::kInt64, {2, 2});
  const float given[] = {1, 5, 3, 5, 3, 2, NAN, -1, 7, -1, 8, NAN};
  std::copy(given, given + 12, values<float>(x));
  const struct {
    Extreme extreme;
    bool last;
    std::vector<int64_t> expected;
  } rules[] = {{Extreme::kMax, false, {1, 0, 0, 0}},
               {Extreme::kMax, true, {2, 1, 0, 1}},
               {Extreme::kMin, false, {0, 2, 0, 0}},
               {Extreme::kMin, true, {0, 2, 0, 1}}};
  std::string error;
  for (const auto& rule : rules) {
    const auto op =
        make_arg_extreme({rule.extreme, rule.last, x.view(), y.view(), 1}, kTarget, &error);
    EDGEKIT_CHECK(op != nullptr, error);
    if (op != nullptr) test::check_runs(random, *op, y, bytes_of(rule.expected), "extreme");
  }
  for (const Storage storage : {Storage::kS8, Storage::kU8}) {
    OwnedTensor codes("codes", DType::kCode, {1, 4});
    OwnedTensor place("place", DType::kInt64, {1});
    const int64_t of_codes[] = {-128, 3, 127, -1};
    for (size_t i = 0; i < 4; ++i) codes.bytes()[i] = test::to_stored(of_codes[i], storage);
    const auto op = make_arg_extreme({Extreme::kMax, false, codes.view(), place.view(), 1},
                                     {Isa::kGeneric, storage}, &error);
    EDGEKIT_CHECK(op != nullptr, error);
    if (op != nullptr) {
      test::check_runs(random, *op, place, bytes_of(std::vector<int64_t>{2}), "of codes");
    }
  }
  ArgExtremeParams params{Extreme::kMax, false, x.view(), y.view(), 3};
  test::check_refused(make_arg_extreme(params, kTarget, &error), error, "along this axis");
  params.axis = 0;
  test::check_refused(make_arg_extreme(params, kTarget, &error), error, "along this axis");
}

EDGEKIT_TEST(padding_fills_floats_with_a_number) {
  Random random(test::seed());
  OwnedTensor x("x", DType::kFloat32, {2});
  OwnedTensor y("y", DType::kFloat32, {5});
  values<float>(x)[0] = 3.F;
  values<float>(x)[1] = 4.F;
  std::string error;
  const auto op = make_pad({x.view(), y.view(), {1, 2}, 0, -1.5F}, kTarget, &error);
  EDGEKIT_CHECK(op != nullptr, error);
  if (op != nullptr) {
    test::check_runs(random, *op, y, bytes_of(std::vector<float>{-1.5F, 3.F, 4.F, -1.5F, -1.5F}),
                     "padding");
  }
  OwnedTensor codes("codes", DType::kCode, {2});
  OwnedTensor padded("padded", DType::kCode, {5});
  test::check_refused(make_pad({codes.view(), padded.view(), {1, 2}, 0, 1.F}, kTarget, &error),
                      error, "float32");
}

EDGEKIT_TEST(changed_operands_stay_within_memory) {
  Random random(test::seed());
  int made = 0;
  int refused = 0;
  constexpr int kCases = 3000;
  for (int i = 0; i < kCases; ++i) {
    OwnedTensor a("a", random.pick({DType::kFloat32, DType::kInt64, DType::kCode}), {2, 3, 4});
    OwnedTensor b("b", random.pick({DType::kInt32, DType::kInt64, DType::kBool}), {2, 3, 4});
    OwnedTensor y("y", random.pick({DType::kFloat32, DType::kInt64, DType::kCode, DType::kBool}),
                  {2, 3, 4});
    for (OwnedTensor* tensor : {&a, &b, &y}) {
      fill(random, *tensor);
      const TensorView before = tensor->view();
      for (int64_t& dim : tensor->view().shape.dims) dim = random.one_in(4) ? 1 : dim;
      if (random.one_in(4)) tensor->view().shape.rank = random.size(0, 3);
      if (random.one_in(6)) {
        tensor->view().dtype = static_cast<DType>(random.integer(0, 5));
        size_t size = dtype_size(tensor->view().dtype);
        for (size_t d = 0; d < tensor->view().shape.rank; ++d) {
          size *= static_cast<size_t>(tensor->view().shape.dims[d]);
        }
        if (size > tensor->size()) tensor->view() = before;
      }
    }
    const auto axis = static_cast<uint32_t>(random.integer(0, 4));
    std::string error;
    std::unique_ptr<Op> ops[] = {
        make_expand({a.view(), y.view()}, kTarget, &error),
        make_gather({a.view(), b.view(), y.view(), axis}, kTarget, &error),
        make_cast({a.view(), y.view()}, kTarget, &error),
        make_compare({Comparison::kLess, a.view(), a.view(), y.view()}, kTarget, &error),
        make_where({b.view(), a.view(), a.view(), y.view()}, kTarget, &error),
        make_integer_binary({IntegerOperator::kDiv, a.view(), b.view(), y.view()}, kTarget, &error),
        make_arg_extreme({Extreme::kMax, false, a.view(), y.view(), axis}, kTarget, &error)};
    for (const auto& op : ops) {
      ++(op == nullptr ? refused : made);
      if (op != nullptr) test::run_in_pieces(random, *op);
    }
  }
  EDGEKIT_CHECK(made > kCases / 10 && refused > kCases / 10,
                std::to_string(made) + " made, " + std::to_string(refused) + " refused");
}

}  // namespace
}  // namespace edgekit
