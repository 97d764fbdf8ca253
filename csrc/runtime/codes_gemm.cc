#include "runtime/codes_gemm.h"

#include <cstring>
#include <memory>
#include <vector>

#include "kernels/sparse_gemm/sparse_gemm.h"

namespace edgekit {
namespace {

// What a kernel may read behind a row of activations.
constexpr size_t kSlack = 64;
constexpr const char* kOutOfMemory = "out of memory";

}  // namespace

bool PreparedGemm::init(const GemmKernel& kernel, const CodesGemm& gemm, std::string* error) {
  const size_t columns = (gemm.n + kernel.nr - 1) / kernel.nr * kernel.nr;
  kernel_ = &kernel;
  m_ = gemm.m;
  a_ = make_aligned_bytes(gemm.m * gemm.k + kSlack);
  bias_ = make_aligned_bytes(columns * sizeof(int32_t));
  scale_ = make_aligned_bytes(columns * sizeof(float));
  y_ = make_aligned_bytes(gemm.m * gemm.n);
  if (!a_ || !bias_ || !scale_ || !y_) {
    *error = kOutOfMemory;
    return false;
  }
  if (!pack(gemm, error)) return false;
  auto* bias = reinterpret_cast<int32_t*>(bias_.get());
  auto* scale = reinterpret_cast<float*>(scale_.get());
  const int32_t offset = storage_offset(kernel.storage);
  for (size_t j = 0; j < gemm.n; ++j) {
    int32_t sum = 0;
    for (size_t l = 0; l < gemm.k; ++l) sum += gemm.w[j * gemm.k + l];
    bias[j] = gemm.bias[j] - offset * sum;
    scale[j] = gemm.scale[j];
  }

  args_.n = gemm.n;
  args_.k = gemm.k;
  args_.taps = 1;
  args_.a_stride = gemm.k;
  args_.bias = bias;
  args_.requantize.scale = scale;
  args_.requantize.lo = static_cast<float>(gemm.lo - gemm.zero_point);
  args_.requantize.hi = static_cast<float>(gemm.hi - gemm.zero_point);
  args_.requantize.zero_point = gemm.zero_point + offset;
  args_.output = Output::kCodes;
  args_.y_stride = gemm.n;
  return true;
}

bool PreparedGemm::pack(const CodesGemm& gemm, std::string* error) {
  const GemmKernel& kernel = *kernel_;
  if (!kernel.sparse) {
    w_ = make_aligned_bytes(packed_gemm_size(kernel, gemm.n, gemm.k, 1));
    if (!w_) {
      *error = kOutOfMemory;
      return false;
    }
    auto* w = reinterpret_cast<int8_t*>(w_.get());
    pack_gemm(kernel, gemm.w, gemm.n, gemm.k, 1, w);
    args_.w = w;
    return true;
  }
  if (!sparse_steps_fit(kernel, gemm.k)) {
    *error = "k is too large for a sparse kernel";
    return false;
  }
  const std::vector<uint8_t> packed = pack_sparse_gemm(kernel, gemm.w, gemm.n, gemm.k, 1);
  w_ = make_aligned_bytes(packed.size());
  if (!w_) {
    *error = kOutOfMemory;
    return false;
  }
  std::memcpy(w_.get(), packed.data(), packed.size());
  const SparseWeights weights = sparse_weights(kernel, w_.get(), gemm.n, 1);
  args_.w = weights.w;
  args_.block_starts = weights.starts;
  args_.block_steps = weights.steps;
  return true;
}

void PreparedGemm::run_rows(size_t begin, size_t end) const {
  GemmArgs args = args_;
  args.m = end - begin;
  args.a = a_.get() + begin * args.a_stride;
  args.y = y_.get() + begin * args.y_stride;
  kernel_->run(args);
}

void PreparedGemm::run(ThreadPool& pool) const {
  const auto run_range = [](const void* gemm, size_t begin, size_t end, size_t /*thread*/) {
    static_cast<const PreparedGemm*>(gemm)->run_rows(begin, end);
  };
  pool.run(m_, kernel_->mr, run_range, this);
}

bool run_codes_gemm(const GemmKernel& kernel, const CodesGemm& gemm, const int8_t* a, int8_t* y,
                    size_t threads, std::string* error) {
  const std::unique_ptr<ThreadPool> pool = ThreadPool::create({threads}, error);
  PreparedGemm prepared;
  if (pool == nullptr || !prepared.init(kernel, gemm, error)) return false;
  const int32_t offset = storage_offset(kernel.storage);
  for (size_t i = 0; i < gemm.m * gemm.k; ++i) {
    prepared.a()[i] = static_cast<uint8_t>(a[i] + offset);
  }
  prepared.run(*pool);
  for (size_t i = 0; i < gemm.m * gemm.n; ++i) {
    y[i] = static_cast<int8_t>(prepared.y()[i] - offset);
  }
  return true;
}

}  // namespace edgekit
