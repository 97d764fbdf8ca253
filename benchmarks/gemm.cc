// Times every GEMM kernel that runs here, on one thread, beside the peak of its instruction set.
//
//   edgekit_gemm_benchmark [KERNEL | MxKxN | DENSITY%]...
//   edgekit_gemm_benchmark break-even [KERNEL | MxKxN]...
//
// KERNEL is a part of a name: only kernels that hold one are timed. MxKxN replaces the shapes,
// which are layers of real networks. Kernels and peaks take turns within one run; what is printed
// is the median of each in 10^9 operations a second (2 * m * n * k, over the time of the calling
// thread), requantizing and storing included, of calls behind another on the same memory. Compare
// figures of one run with each other, not runs.
//
// Sparse kernels are timed with so many % of their blocks, of each panel as many and unevenly, and
// compared with the fastest dense kernel of their instruction set in the run. `break-even` prints
// rows of converters/prune/break_even.toml instead.

#include "kernels/gemm/gemm.h"

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "break_even.h"
#include "contest.h"
#include "gemm_contestant.h"
#include "kernels/sparse_gemm/sparse_gemm.h"
#include "sampler.h"

namespace edgekit::benchmark {
namespace {

constexpr GemmShape kShapes[] = {
    {1, 1024, 1024}, {16, 768, 768},     {128, 768, 768},    {128, 768, 3072}, {196, 512, 512},
    {784, 256, 256}, {3136, 64, 64},     {3136, 24, 144},    {784, 40, 240},   {49, 192, 1152},
    {512, 512, 512}, {1024, 1024, 1024}, {2048, 2048, 2048},
};

constexpr double kDensities[] = {0.5, 0.25, 0.1};

struct Request {
  std::vector<GemmShape> shapes;
  std::vector<double> densities;
  std::vector<const char*> parts;
  bool break_even = false;
};

void print_sparse(const GemmContestants& contestants, const GemmContestant& contestant) {
  const BlockPattern& pattern = contestant.pattern();
  std::printf("  %-48s %5.1f %% %-6s %10.1f us", contestant.kernel().name, 100 * pattern.density,
              pattern.even ? "even" : "uneven", contestant.seconds() * 1e6);
  const GemmContestant* dense = find_fastest_dense(contestants, contestant.kernel());
  if (dense != nullptr) {
    std::printf("  %5.2f times %s", dense->seconds() / contestant.seconds(), dense->kernel().name);
  }
  std::printf("\n");
}

void run_shape(const GemmShape& shape, const std::vector<const GemmKernel*>& dense,
               const std::vector<const GemmKernel*>& sparse, const std::vector<double>& densities) {
  GemmContestants contestants;
  TimedPeaks peaks;
  double cost = 0;
  for (const GemmKernel* kernel : dense) {
    contestants.push_back(std::make_unique<GemmContestant>(*kernel, shape));
    peaks.add(kernel->isa);
  }
  for (const GemmKernel* kernel : sparse) {
    for (const double density : densities) {
      for (const bool even : {true, false}) {
        const BlockPattern pattern{density, even};
        contestants.push_back(std::make_unique<GemmContestant>(*kernel, shape, pattern));
      }
    }
  }
  for (const auto& contestant : contestants) cost += contestant->cost();
  for (int round = rounds(cost); round > 0; --round) {
    peaks.sample();
    for (const auto& contestant : contestants) contestant->sample();
  }
  std::printf("\n%zu x %zu x %zu (m x k x n)\n", shape.m, shape.k, shape.n);
  for (const auto& contestant : contestants) {
    if (contestant->kernel().sparse) {
      print_sparse(contestants, *contestant);
      continue;
    }
    const double gops = contestant->gops();
    std::printf("  %-40s %10.1f us %8.1f GOPS", contestant->kernel().name,
                contestant->seconds() * 1e6, gops);
    peaks.print_share(contestant->kernel().isa, gops);
    std::printf("\n");
  }
}

/// Reads the arguments. Returns false, and says why, where one makes no sense.
bool read_request(int argc, char** argv, Request* request) {
  for (int i = 1; i < argc; ++i) {
    GemmShape shape;
    double percent;
    char behind;
    if (std::strcmp(argv[i], "break-even") == 0) {
      request->break_even = true;
    } else if (std::sscanf(argv[i], "%zux%zux%zu%c", &shape.m, &shape.k, &shape.n, &behind) == 3) {
      if (shape.m == 0 || shape.n == 0) {
        std::fprintf(stderr, "%s has nothing to compute: m and n are at least 1\n", argv[i]);
        return false;
      }
      request->shapes.push_back(shape);
    } else if (std::sscanf(argv[i], "%lf%c", &percent, &behind) == 2 && behind == '%') {
      if (!(percent >= 0 && percent <= 100)) {
        std::fprintf(stderr, "%s is no share of the blocks: 0%% to 100%%\n", argv[i]);
        return false;
      }
      request->densities.push_back(percent / 100);
    } else {
      request->parts.push_back(argv[i]);
    }
  }
  return true;
}

int main_of_benchmark(int argc, char** argv) {
  Request request;
  if (!read_request(argc, argv, &request)) return 2;
  const std::vector<const GemmKernel*> dense = find_kernels(gemm_kernels, request.parts);
  const std::vector<const GemmKernel*> sparse = find_kernels(sparse_gemm_kernels, request.parts);
  if (dense.empty() && sparse.empty()) {
    std::fprintf(stderr, "no GEMM kernel with such a name runs here\n");
    return 2;
  }
  if (request.break_even) {
    print_break_even(request.shapes, dense, sparse);
    return 0;
  }
  if (request.shapes.empty()) request.shapes.assign(std::begin(kShapes), std::end(kShapes));
  if (request.densities.empty()) {
    request.densities.assign(std::begin(kDensities), std::end(kDensities));
  }
  for (const GemmShape& shape : request.shapes) {
    run_shape(shape, dense, sparse, request.densities);
  }
  return 0;
}

}  // namespace
}  // namespace edgekit::benchmark

int main(int argc, char** argv) { return edgekit::benchmark::main_of_benchmark(argc, argv); }
