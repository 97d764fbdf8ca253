#include "break_even.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "sampler.h"

namespace edgekit::benchmark {
namespace {

/// One row, few and many, by little, middling and much to multiply, and numbers of columns that
/// fill panels and that do not.
constexpr GemmShape kTableShapes[] = {
    {1, 256, 256},   {1, 1024, 1024}, {16, 256, 256},  {16, 768, 768},  {49, 192, 1152},
    {49, 1152, 192}, {49, 576, 128},  {196, 96, 576},  {196, 512, 512}, {196, 480, 80},
    {196, 672, 112}, {784, 40, 240},  {784, 256, 256}, {784, 240, 40},  {784, 576, 64},
    {3136, 24, 144}, {3136, 144, 24}, {3136, 64, 64},  {12544, 16, 96}, {12544, 32, 16},
};

constexpr double kTimedDensities[] = {0, 0.1, 0.25, 0.5, 0.75, 1};

/// Returns what the processor calls itself.
std::string find_processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "a processor without a name";
}

/// The line y = floor + slope * x that is nearest to points.
struct Line {
  double floor = 0;
  double slope = 0;
};

Line fit_line(const std::vector<double>& x, const std::vector<double>& y) {
  const double count = static_cast<double>(x.size());
  double mean_x = 0;
  double mean_y = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    mean_x += x[i] / count;
    mean_y += y[i] / count;
  }
  double products = 0;
  double squares = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    products += (x[i] - mean_x) * (y[i] - mean_y);
    squares += (x[i] - mean_x) * (x[i] - mean_x);
  }
  Line line;
  line.slope = products / squares;
  line.floor = mean_y - line.slope * mean_x;
  return line;
}

void print_row(const GemmKernel& kernel, const GemmShape& shape, const Line& line,
               const std::string& processor) {
  const double floor = std::max(line.floor, 0.0);
  if (floor >= 1) return;
  const double density = line.slope <= 0 ? 1 : std::min((1 - floor) / line.slope, 1.0);
  std::printf("\n[[row]]\nisa = \"%s\"\nblock = \"%ux%u\"\n", isa_info(kernel.isa).name, kernel.kr,
              kernel.nr);
  std::printf("m = %zu\nk = %zu\nn = %zu\ndensity = %.3f\nfloor = %.3f\n", shape.m, shape.k,
              shape.n, density, floor);
  std::printf("source = \"measured: %s\"\n", processor.c_str());
}

void run_shape(const GemmShape& shape, const std::vector<const GemmKernel*>& dense,
               const std::vector<const GemmKernel*>& sparse, const std::string& processor) {
  GemmContestants contestants;
  for (const GemmKernel* kernel : dense) {
    contestants.push_back(std::make_unique<GemmContestant>(*kernel, shape));
  }
  for (const GemmKernel* kernel : sparse) {
    for (const double density : kTimedDensities) {
      contestants.push_back(
          std::make_unique<GemmContestant>(*kernel, shape, BlockPattern{density, false}));
    }
  }
  double cost = 0;
  for (const auto& contestant : contestants) cost += contestant->cost();
  for (int round = rounds(cost); round > 0; --round) {
    for (const auto& contestant : contestants) contestant->sample();
  }
  for (const GemmKernel* kernel : sparse) {
    const GemmContestant* fastest = find_fastest_dense(contestants, *kernel);
    if (fastest == nullptr) continue;
    std::vector<double> densities;
    std::vector<double> shares;
    for (const auto& contestant : contestants) {
      if (&contestant->kernel() != kernel) continue;
      densities.push_back(contestant->pattern().density);
      shares.push_back(contestant->seconds() / fastest->seconds());
    }
    print_row(*kernel, shape, fit_line(densities, shares), processor);
  }
}

}  // namespace

void print_break_even(const std::vector<GemmShape>& shapes,
                      const std::vector<const GemmKernel*>& dense,
                      const std::vector<const GemmKernel*>& sparse) {
  const std::string processor = find_processor();
  if (!shapes.empty()) {
    for (const GemmShape& shape : shapes) run_shape(shape, dense, sparse, processor);
    return;
  }
  for (const GemmShape& shape : kTableShapes) run_shape(shape, dense, sparse, processor);
}

}  // namespace edgekit::benchmark
