#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "compress/columns.h"
#include "compress/exact.h"
#include "compress/factor.h"
#include "compress/hessian.h"
#include "compress/removal.h"
#include "compress/update/update.h"
#include "random.h"
#include "test.h"

namespace edgekit::test {
namespace {

using namespace edgekit::compress;  // NOLINT(google-build-using-namespace): what is tested.

std::vector<double> draw(Random* random, size_t count) {
  std::vector<double> values(count);
  for (double& value : values) value = static_cast<double>(random->integer(-900, 900)) / 256.0;
  return values;
}

EDGEKIT_TEST(update_kernels_equal_plain_loops) {
  Random random(seed());
  for (const UpdateKernel& kernel : update_kernels()) {
    if (!can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
    for (const size_t tiles : {1, 2, 3, 4, 7}) {
      for (const size_t depth : {0, 1, 5, 128}) {
        const size_t step = tiles * kTile + random.size(0, 2);
        const size_t y_step = depth * kTile + random.size(0, 9);
        const std::vector<double> x = draw(&random, depth * kTile);
        const std::vector<double> y = draw(&random, tiles * y_step + kTile);
        const std::vector<double> before = draw(&random, kTile * step);
        std::vector<double> found = before, expected = before;
        kernel.run({found.data(), step, x.data(), y.data(), y_step, tiles, depth});
        for (size_t i = 0; i < kTile; ++i) {
          for (size_t j = 0; j < tiles * kTile; ++j) {
            for (size_t p = 0; p < depth; ++p) {
              const double product =
                  x[p * kTile + i] * y[j / kTile * y_step + p * kTile + j % kTile];
              expected[i * step + j] += product;
            }
          }
        }
        EDGEKIT_CHECK(found == expected, std::string(kernel.name) + ", depth " +
                                             std::to_string(depth) + ", tiles " +
                                             std::to_string(tiles));
        count_case(kernel.isa);
      }
    }
  }
}

/// Decides rows under every rule; the sanitizers see what it touches, the results are compared.
EDGEKIT_TEST(threads_and_instruction_sets_give_the_same_bytes) {
  Random random(seed());
  for (const size_t depth : {1, 8, 67}) {
    for (const size_t rows : {1, 25, 70}) {
      const Window window = {depth, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, false};
      const std::vector<uint32_t> place(1);
      std::vector<int8_t> x(depth);
      std::vector<size_t> order(depth);
      for (size_t i = 0; i < depth; ++i) order[i] = i;
      const std::vector<double> weights = draw(&random, rows * depth);
      std::vector<std::vector<int8_t>> samples(depth / 2 + 1, x);
      for (auto& sample : samples) {
        for (int8_t& code : sample) code = static_cast<int8_t>(random.integer(-128, 127));
      }
      const std::vector<double> parts = {1.0, 0.75};
      for (const MaskRule::Kind kind :
           {MaskRule::Kind::kNone, MaskRule::Kind::kCount, MaskRule::Kind::kDensity}) {
        std::vector<double> first;
        for (const UpdateKernel& kernel : update_kernels()) {
          if (!can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
          for (const size_t threads : {1, 3}) {
            Crew crew(threads);
            Hessian hessian(1, depth, kernel.isa, crew);
            for (const auto& sample : samples) {
              hessian.add(window, sample.data(), {1, 0, 128}, place.data(), place.size());
            }
            std::vector<double> h(depth * depth);
            hessian.copy_to(0, h.data());
            const Factor factor(h.data(), order.data(), depth, 0.01, kernel.isa, crew, {});
            std::vector<uint8_t> kept(rows * depth, 1);
            std::vector<double> scales(rows * ((depth + 31) / 32)), result(rows * depth);
            std::vector<double> costs(rows);
            std::vector<int8_t> codes(rows * depth);
            MaskRule mask;
            mask.kind = kind;
            mask.rows = kind == MaskRule::Kind::kDensity ? 32 : 1;
            mask.columns = kind == MaskRule::Kind::kDensity ? 4 : 1;
            mask.window = kind == MaskRule::Kind::kDensity ? 64 : 4;
            mask.count = 2;
            mask.density = 0.5;
            const Columns columns = {rows,
                                     weights.data(),
                                     mask,
                                     kept.data(),
                                     true,
                                     -8,
                                     7,
                                     32,
                                     scales.data(),
                                     parts.data(),
                                     parts.size(),
                                     codes.data(),
                                     result.data(),
                                     costs.data()};
            solve_columns(factor, columns, kernel.isa, crew, {});
            if (first.empty()) first = result;
            EDGEKIT_CHECK(first == result, std::string(kernel.name) + ", " + std::to_string(rows) +
                                               " by " + std::to_string(depth));
            if (depth <= 8) {
              const ExactRows exact = {
                  1,           rows, depth, h.data(), 0.01,          weights.data(), nullptr,
                  depth / 2,   true, -8,    7,        scales.data(), codes.data(),   result.data(),
                  costs.data()};
              EDGEKIT_CHECK(solve_exactly(exact, crew, {}) == -1, "not positive definite");
            }
          }
        }
      }
    }
  }
}

/// Blocks go, and weights make up for them, with M of inputs whose neighbours are alike.
EDGEKIT_TEST(blocks_go_in_the_same_order_everywhere) {
  Random random(seed());
  for (const size_t depth : {1, 30, 150}) {
    for (const size_t width : {1, 4, 70}) {
      const size_t rows = 9;
      const std::vector<double> weights = draw(&random, rows * depth);
      std::vector<double> inverse(depth * depth);
      for (size_t i = 0; i < depth; ++i) {
        inverse[i * depth + i] = 2.0;
        if (i > 0) inverse[i * depth + i - 1] = inverse[(i - 1) * depth + i] = -0.9;
      }
      std::vector<uint8_t> kept(2 * depth);
      for (uint8_t& stays : kept) stays = static_cast<uint8_t>(random.integer(0, 1));
      const std::vector<int64_t> support_of = {0, 1, 1, 0, 1, 0, 0, 0, 1};
      std::vector<int64_t> first_order;
      std::vector<double> first;
      for (const UpdateKernel& kernel : update_kernels()) {
        if (!can_run(kernel.name, kernel.isa, kernel.run != nullptr)) continue;
        for (const size_t threads : {1, 3}) {
          Crew crew(threads);
          Removal removal = {rows,           depth,          4,       width,  4, 1, false,
                             weights.data(), inverse.data(), nullptr, nullptr};
          std::vector<int64_t> order(removal.panels() * removal.steps());
          std::vector<double> costs(order.size());
          removal.order = order.data();
          removal.costs = costs.data();
          EDGEKIT_CHECK(order_removal(removal, kernel.isa, crew, {}), "not positive definite");
          std::vector<double> result(rows * depth), lost(rows);
          const GivenZeros zeros = {rows,
                                    depth,
                                    2,
                                    weights.data(),
                                    inverse.data(),
                                    kept.data(),
                                    support_of.data(),
                                    result.data(),
                                    lost.data()};
          EDGEKIT_CHECK(apply_zeros(zeros, kernel.isa, crew, {}), "not positive definite");
          result.insert(result.end(), lost.begin(), lost.end());
          result.insert(result.end(), costs.begin(), costs.end());
          if (first.empty()) {
            first = result;
            first_order = order;
          }
          EDGEKIT_CHECK(first == result && first_order == order,
                        std::string(kernel.name) + ", " + std::to_string(depth) + " columns");
          count_case(kernel.isa);
        }
      }
    }
  }
}

}  // namespace
}  // namespace edgekit::test
