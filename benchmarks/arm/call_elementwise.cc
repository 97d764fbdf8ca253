// Calls the kernel that an instruction set has for an operator without weights some times, so that
// a counter of instructions sees what a call takes: the count of two calls less that of one.
//
//   edgekit_call_elementwise ISA OPERATOR ROWSxWIDTH TIMES
//
// Operators: add mul lookup dequantize softmax, of as many elements; mean, max_pool and
// average_pool (3x3, stride 2) of ROWS pixels of WIDTH channels; transpose and transpose4, of bytes
// and words. Codes take the whole range with zero point -128.

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/elementwise/elementwise.h"
#include "kernels/move/move.h"
#include "kernels/pool/pool.h"
#include "kernels/softmax/softmax.h"

namespace edgekit {
namespace {

constexpr size_t kReadable = 64;
constexpr size_t kWindow = 3;

/// What every operator is called with: rows of width bytes of input, and room for as many words.
struct Problem {
  Problem(const IsaInfo& from, size_t row_count, size_t row_width, int call_count)
      : isa(from),
        rows(row_count),
        width(row_width),
        times(call_count),
        zero_point(storage_offset(from.storage) - 128),
        x(rows * width * sizeof(float) + kReadable),
        y(rows * width * sizeof(float) + kReadable) {
    uint32_t state = 1;
    for (uint8_t& code : x) {
      state = state * 1664525u + 1013904223u;
      code = static_cast<uint8_t>(state >> 24);
    }
  }

  /// Calls the kernel for Args.
  template <class Args>
  int call(const Args& args) const {
    const Kernel<Args>& kernel = select_kernel<Args>(isa.isa, isa.storage);
    std::printf("%s\n", kernel.name);
    for (int i = 0; i < times; ++i) kernel.run(args);
    return 0;
  }

  const IsaInfo& isa;
  size_t rows;
  size_t width;
  int times;
  int32_t zero_point;
  std::vector<uint8_t> x;
  std::vector<uint8_t> y;
};

Operands make_operands(Problem& problem) {
  Operands o = {};
  o.rows = problem.rows;
  o.width = o.a_stride = o.b_stride = o.y_stride = problem.width;
  o.a = problem.x.data();
  o.b = problem.x.data() + problem.rows * problem.width;
  o.a_step = o.b_step = 1;
  o.y = problem.y.data();
  o.a_zero_point = o.b_zero_point = o.zero_point = problem.zero_point;
  o.hi = 255;
  return o;
}

/// One row of output of a pool whose window has three rows of input.
PoolWindow make_window(Problem& problem, const std::vector<const uint8_t*>& rows) {
  PoolWindow window = {};
  window.channels = problem.width;
  window.in_width = problem.rows;
  window.out_width = (problem.rows - kWindow) / 2 + 1;
  window.row_count = window.kernel_w = kWindow;
  window.stride_w = 2;
  window.dilation_w = 1;
  window.rows = rows.data();
  window.y = problem.y.data();
  return window;
}

int call_pool(Problem& problem, bool takes_maximum) {
  const std::vector<const uint8_t*> rows(kWindow, problem.x.data());
  const std::vector<float> multiplier(kWindow * kWindow + 1, 0.125f);
  const PoolWindow window = make_window(problem, rows);
  if (takes_maximum) {
    return problem.call(MaxPoolArgs{window, problem.zero_point, problem.zero_point + 255});
  }
  return problem.call(AveragePoolArgs{window, multiplier.data(), 0, problem.zero_point,
                                      problem.zero_point, 0, 255});
}

int call_softmax(Problem& problem) {
  std::vector<uint32_t> table(256);
  for (size_t i = 0; i < table.size(); ++i) table[i] = (1u << 30) >> (i / 8);
  return problem.call(SoftmaxArgs{problem.rows, problem.width, problem.x.data(), problem.y.data(),
                                  table.data(), uint64_t{1} << 24, problem.zero_point,
                                  problem.zero_point, problem.zero_point + 255});
}

/// Transposes `width` rows of `rows` elements.
int call_transpose(Problem& problem, size_t size) {
  return problem.call(MoveArgs{
      problem.rows, problem.width, size, problem.x.data(), static_cast<ptrdiff_t>(size),
      static_cast<ptrdiff_t>(problem.rows * size), problem.y.data(), problem.width * size});
}

int call(Problem& problem, const std::string& name) {
  const size_t size = problem.rows * problem.width;
  if (name == "add") return problem.call(AddArgs{make_operands(problem), 0.5f, 0.375f});
  if (name == "mul") return problem.call(MulArgs{make_operands(problem), 0.004f});
  if (name == "lookup") {
    return problem.call(
        LookupArgs{size, problem.x.data(), problem.y.data(), problem.x.data() + size});
  }
  if (name == "dequantize") {
    return problem.call(DequantizeArgs{size, 1, problem.x.data(),
                                       reinterpret_cast<float*>(problem.y.data()), size, 0.1f,
                                       problem.zero_point});
  }
  if (name == "mean") {
    return problem.call(GlobalMeanArgs{problem.rows, problem.width, problem.x.data(), problem.width,
                                       problem.y.data(), 1.0f / static_cast<float>(problem.rows),
                                       problem.zero_point, problem.zero_point, 0, 255});
  }
  if (name == "max_pool" || name == "average_pool") return call_pool(problem, name == "max_pool");
  if (name == "softmax") return call_softmax(problem);
  if (name == "transpose") return call_transpose(problem, 1);
  if (name == "transpose4") return call_transpose(problem, sizeof(float));
  std::fprintf(stderr, "edgekit_call_elementwise: no operator %s\n", name.c_str());
  return 2;
}

int run(int argc, char** argv) {
  Isa isa = Isa::kGeneric;
  size_t rows = 0;
  size_t width = 0;
  if (argc != 5 || !parse_isa(argv[1], &isa) ||
      std::sscanf(argv[3], "%zux%zu", &rows, &width) != 2 || rows < kWindow) {
    std::fprintf(stderr, "usage: edgekit_call_elementwise ISA OPERATOR ROWSxWIDTH TIMES\n");
    return 2;
  }
  if (!isa_built(isa) || !isa_supported(isa)) {
    std::fprintf(stderr, "edgekit_call_elementwise: this CPU or build lacks that set\n");
    return 2;
  }
  Problem problem(isa_info(isa), rows, width, std::atoi(argv[4]));
  return call(problem, argv[2]);
}

}  // namespace
}  // namespace edgekit

int main(int argc, char** argv) { return edgekit::run(argc, argv); }
