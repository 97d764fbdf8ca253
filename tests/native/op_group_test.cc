#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "conv_problem.h"
#include "kernels/gemm/gemm.h"
#include "op_harness.h"
#include "ops/group_fully_connected.h"
#include "random_codes.h"
#include "random_floats.h"
#include "test.h"

// Products of int4 weights with scales for groups along k, with every kernel that takes them,
// against the definition.

namespace edgekit {
namespace {

using test::blob_of;
using test::OwnedTensor;
using test::Random;

constexpr int kCases = 60;

/// A random problem, its constants in the form of a plan, and what it gives by the definition.
struct Problem {
  Problem(Random& random, const GemmKernel& gemm, bool makes_codes, size_t rows, size_t inner,
          size_t outer, size_t weights_in_group)
      : kernel(gemm),
        m(rows),
        k(inner),
        n(outer),
        group(weights_in_group),
        groups((inner + group - 1) / group),
        padded((outer + gemm.nr - 1) / gemm.nr * gemm.nr),
        input("input", makes_codes ? DType::kCode : DType::kFloat32,
              {static_cast<int64_t>(m), static_cast<int64_t>(k)}),
        output("output", makes_codes ? DType::kCode : DType::kFloat32,
               {static_cast<int64_t>(m), static_cast<int64_t>(n)}),
        weights(n * k),
        correction(groups * padded),
        multiplier(groups * padded),
        bias(n) {
    for (int8_t& w : weights) w = static_cast<int8_t>(random.integer(-8, 7));
    if (makes_codes) {
      test::pick_quantization(random, input.view());
      test::pick_quantization(random, output.view());
      test::pick_bounds(random, &lo, &hi);
      test::fill_bytes(random, input.bytes(), input.size());
    } else {
      test::fill_floats(random, reinterpret_cast<float*>(input.bytes()), m * k);
    }
    for (size_t g = 0; g < groups; ++g) {
      const size_t depth = std::min(group, k - g * group);
      packed.resize((packed.size() + 63) / 64 * 64);
      std::vector<int8_t> part;
      for (size_t o = 0; o < n; ++o) {
        const int8_t* own = &weights[o * k + g * group];
        part.insert(part.end(), own, own + depth);
        int32_t sum = 0;
        for (size_t i = 0; i < depth; ++i) sum += own[i];
        correction[g * padded + o] = -stored_zero_point() * sum;
        multiplier[g * padded + o] = random.log_uniform(1e-4, 1e-1);
      }
      const size_t at = packed.size();
      packed.resize(at + packed_gemm_size(kernel, n, depth, 1));
      pack_gemm(kernel, part.data(), n, depth, 1, packed.data() + at);
    }
    for (float& b : bias) b = static_cast<float>(random.integer(-1000, 1000)) / 16;
    codes.resize(256);
    test::fill_bytes(random, codes.data(), codes.size());
    params.input = input.view();
    params.output = output.view();
    params.kernel = kernel.name;
    params.group = static_cast<uint32_t>(group);
    params.weights = blob_of(packed);
    params.correction = blob_of(correction);
    params.multiplier = blob_of(multiplier);
    params.bias = blob_of(bias);
    params.lo = lo;
    params.hi = hi;
    if (makes_codes && random.one_in(3)) {
      params.table = {true, 0.5F, static_cast<int32_t>(random.integer(-128, 127)), blob_of(codes)};
    }
  }

  bool makes_codes() { return output.view().dtype == DType::kCode; }

  int32_t stored_zero_point() {
    return (makes_codes() ? input.view().zero_point : 0) + storage_offset(kernel.storage);
  }

  /// Returns the codes of a row less their zero point, and its scale where it has one of its own.
  std::vector<int32_t> centred(size_t row, float* scale) {
    std::vector<int32_t> values(k);
    if (makes_codes()) {
      for (size_t i = 0; i < k; ++i) {
        values[i] = input.code(kernel.storage, row * k + i) - input.view().zero_point;
      }
      return values;
    }
    const float* x = reinterpret_cast<const float*>(input.bytes()) + row * k;
    *scale = 0;
    for (size_t i = 0; i < k; ++i) *scale = std::max(*scale, std::fabs(x[i]));
    *scale = *scale / 127.0F;
    for (size_t i = 0; i < k; ++i) {
      const float ratio = x[i] / *scale;
      values[i] = std::isnan(ratio)
                      ? -127
                      : static_cast<int32_t>(std::nearbyint(std::clamp(ratio, -127.0F, 127.0F)));
    }
    return values;
  }

  std::vector<uint8_t> expected() {
    std::vector<uint8_t> bytes(output.size());
    const FusedTable& table = params.table;
    const int32_t zero_point = table.present ? table.zero_point : output.view().zero_point;
    for (size_t r = 0; r < m; ++r) {
      float scale = 1;
      const std::vector<int32_t> x = centred(r, &scale);
      for (size_t o = 0; o < n; ++o) {
        float v = 0;
        for (size_t g = 0; g < groups; ++g) {
          int32_t sum = 0;
          for (size_t i = g * group; i < std::min(k, (g + 1) * group); ++i) {
            sum += x[i] * weights[o * k + i];
          }
          const float product = static_cast<float>(sum) * multiplier[g * padded + o];
          v = g == 0 ? product : v + product;
        }
        if (!makes_codes()) {
          const float scaled = v * scale;
          const float y = scaled + bias[o];
          std::memcpy(&bytes[(r * n + o) * 4], &y, 4);
          continue;
        }
        const float sum = v + bias[o];
        const float bounded = std::fmin(std::fmax(sum, static_cast<float>(lo - zero_point)),
                                        static_cast<float>(hi - zero_point));
        int32_t code = zero_point + static_cast<int32_t>(std::nearbyint(bounded));
        if (table.present) code = codes[static_cast<size_t>(code + 128)];
        bytes[r * n + o] = static_cast<uint8_t>(code + storage_offset(kernel.storage));
      }
    }
    return bytes;
  }

  std::string describe() const {
    return std::string(kernel.name) + " m " + std::to_string(m) + " n " + std::to_string(n) +
           " k " + std::to_string(k) + " group " + std::to_string(group);
  }

  const GemmKernel& kernel;
  size_t m;
  size_t k;
  size_t n;
  size_t group;
  size_t groups;
  size_t padded;
  int32_t lo = -128;
  int32_t hi = 127;
  OwnedTensor input;
  OwnedTensor output;
  std::vector<int8_t> weights;
  std::vector<int8_t> packed;
  std::vector<int32_t> correction;
  std::vector<float> multiplier;
  std::vector<float> bias;
  std::vector<int8_t> codes;
  GroupFullyConnectedParams params;
};

EDGEKIT_TEST(groups_are_added_as_defined) {
  size_t count = 0;
  const GemmKernel* kernels = gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    const GemmKernel& kernel = kernels[i];
    if (kernel.bits != 4 || !test::can_run(kernel.name, kernel.isa, kernel.run != nullptr)) {
      continue;
    }
    Random random(test::seed());
    for (int j = 0; j < kCases; ++j) {
      const size_t rows = random.pick<size_t>({1, 2, 31, 32, 33, 70});
      Problem problem(random, kernel, random.one_in(2), rows, random.size(1, 200),
                      random.size(1, random.one_in(3) ? 150 : 20),
                      random.pick<size_t>({1, 7, 32, 64, 128, 1000}));
      std::string error;
      const PlanTarget target = {kernel.isa, kernel.storage};
      const auto op = make_group_fully_connected(problem.params, target, &error);
      EDGEKIT_CHECK(op != nullptr, problem.describe() + ": " + error);
      if (op == nullptr) continue;
      test::check_runs(random, *op, problem.output, problem.expected(), problem.describe());
      test::count_case(kernel.isa);
    }
  }
}

EDGEKIT_TEST(groups_that_do_not_fit_are_refused) {
  const PlanTarget target = {Isa::kGeneric, Storage::kS8};
  const GemmKernel& kernel = select_gemm(target.isa, target.storage, 4, 5, 100, 1, false, 4);
  Random random(test::seed());
  for (const bool makes_codes : {true, false}) {
    Problem problem(random, kernel, makes_codes, 4, 100, 5, 32);
    problem.params.table.present = false;
    std::vector<int32_t> large(problem.correction.size(), 1 << 27);
    std::vector<float> infinite(problem.multiplier.size(), HUGE_VALF);
    struct Change {
      const char* message;
      std::function<void(GroupFullyConnectedParams&)> make;
    };
    const Change changes[] = {
        {"'none' is unknown", [](auto& p) { p.kernel = "none"; }},
        {"no weights of 4 bits", [](auto& p) { p.kernel = "gemm_s8_s8c_s8_1x16c4_generic"; }},
        {"another storage", [](auto& p) { p.kernel = "gemm_u8_s4c_u8_1x16c4_generic"; }},
        {"no weights", [](auto& p) { p.group = 0; }},
        {"the correction holds", [](auto& p) { p.group = 16; }},
        {"the weights hold", [](auto& p) { --p.weights.size; }},
        {"the correction holds", [](auto& p) { p.correction.size -= 4; }},
        {"the multiplier holds", [](auto& p) { p.multiplier.size += 4; }},
        {"the bias holds", [](auto& p) { p.bias.size -= 4; }},
        {"may leave int32", [&](auto& p) { p.correction = blob_of(large); }},
        {"not a number", [&](auto& p) { p.multiplier = blob_of(infinite); }},
        {"different numbers of rows", [](auto& p) { p.input.shape.dims[0] = 3; }},
        {"overlap", [](auto& p) { p.output.data = p.input.data; }},
    };
    for (const Change& change : changes) {
      GroupFullyConnectedParams params = problem.params;
      change.make(params);
      std::string error;
      test::check_refused(make_group_fully_connected(params, target, &error), error,
                          change.message);
    }
    std::string error;
    EDGEKIT_CHECK(make_group_fully_connected(problem.params, target, &error) != nullptr, error);
  }
}

}  // namespace
}  // namespace edgekit
