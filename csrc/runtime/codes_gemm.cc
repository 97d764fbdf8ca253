#include "runtime/codes_gemm.h"

#include <memory>

#include "runtime/aligned_bytes.h"
#include "runtime/thread_pool.h"

namespace edgekit {
namespace {

// What a kernel may read behind a row of activations.
constexpr size_t kSlack = 64;

struct Rows {
  const GemmKernel* kernel;
  GemmArgs args;
};

void run_rows(const void* context, size_t begin, size_t end, size_t /*thread*/) {
  const auto& rows = *static_cast<const Rows*>(context);
  GemmArgs args = rows.args;
  args.m = end - begin;
  args.a += begin * args.a_stride;
  args.y = static_cast<uint8_t*>(args.y) + begin * args.y_stride;
  rows.kernel->run(args);
}

}  // namespace

bool run_codes_gemm(const GemmKernel& kernel, const CodesGemm& gemm, size_t threads,
                    std::string* error) {
  const std::unique_ptr<ThreadPool> pool = ThreadPool::create(threads, error);
  if (pool == nullptr) return false;

  const size_t columns = (gemm.n + kernel.nr - 1) / kernel.nr * kernel.nr;
  const AlignedBytes a = make_aligned_bytes(gemm.m * gemm.k + kSlack);
  const AlignedBytes w = make_aligned_bytes(packed_gemm_size(kernel, gemm.n, gemm.k, 1));
  const AlignedBytes bias_bytes = make_aligned_bytes(columns * sizeof(int32_t));
  const AlignedBytes scale_bytes = make_aligned_bytes(columns * sizeof(float));
  if (!a || !w || !bias_bytes || !scale_bytes) {
    *error = "out of memory";
    return false;
  }
  auto* bias = reinterpret_cast<int32_t*>(bias_bytes.get());
  auto* scale = reinterpret_cast<float*>(scale_bytes.get());

  const int32_t offset = storage_offset(kernel.storage);
  for (size_t i = 0; i < gemm.m * gemm.k; ++i) a[i] = static_cast<uint8_t>(gemm.a[i] + offset);
  pack_gemm(kernel, gemm.w, gemm.n, gemm.k, 1, reinterpret_cast<int8_t*>(w.get()));
  for (size_t j = 0; j < gemm.n; ++j) {
    int32_t sum = 0;
    for (size_t l = 0; l < gemm.k; ++l) sum += gemm.w[j * gemm.k + l];
    bias[j] = gemm.bias[j] - offset * sum;
    scale[j] = gemm.scale[j];
  }

  Rows rows = {&kernel, {}};
  rows.args.n = gemm.n;
  rows.args.k = gemm.k;
  rows.args.taps = 1;
  rows.args.a = a.get();
  rows.args.a_stride = gemm.k;
  rows.args.w = reinterpret_cast<const int8_t*>(w.get());
  rows.args.bias = bias;
  rows.args.requantize.scale = scale;
  rows.args.requantize.lo = static_cast<float>(gemm.lo - gemm.zero_point);
  rows.args.requantize.hi = static_cast<float>(gemm.hi - gemm.zero_point);
  rows.args.requantize.zero_point = gemm.zero_point + offset;
  rows.args.output = Output::kCodes;
  rows.args.y = gemm.y;
  rows.args.y_stride = gemm.n;
  pool->run(gemm.m, kernel.mr, run_rows, &rows);
  for (size_t i = 0; i < gemm.m * gemm.n; ++i) {
    gemm.y[i] = static_cast<int8_t>(static_cast<uint8_t>(gemm.y[i]) - offset);
  }
  return true;
}

}  // namespace edgekit
