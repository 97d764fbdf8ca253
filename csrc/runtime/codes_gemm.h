#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/gemm/gemm.h"
#include "runtime/aligned_bytes.h"
#include "runtime/thread_pool.h"

namespace edgekit {

/// A matrix product on plain int8 codes:
///
///   acc[i, j] = bias[j] + sum_l a[i, l] * w[j, l]
///   y[i, j]   = clamp(zero_point + rne(float32(acc[i, j]) * scale[j]), lo, hi)
///
/// w [n][k] is row-major. An input zero point is the caller's to fold into bias.
struct CodesGemm {
  size_t m;
  size_t n;
  size_t k;
  const int8_t* w;
  const int32_t* bias;
  const float* scale;
  int32_t zero_point;
  int32_t lo;
  int32_t hi;
};

/// The product with one kernel that this CPU can run, the weights packed as in a plan: for trying
/// kernels out and for timing them.
class PreparedGemm {
 public:
  /// Packs the weights of `gemm`, which need not outlive the call. Returns false and sets `error`
  /// where memory is not to be had, or a sparse kernel has no numbers for so many steps.
  bool init(const GemmKernel& kernel, const CodesGemm& gemm, std::string* error);

  /// Returns where a [m][k] lies, row-major stored values; zeros at first.
  uint8_t* a() const { return a_.get(); }

  /// Returns where y [m][n] lies, row-major stored values.
  uint8_t* y() const { return y_.get(); }

  /// Computes y from a on the calling thread.
  void run() const { run_rows(0, m_); }

  /// Computes y from a on the threads of `pool`.
  void run(ThreadPool& pool) const;

 private:
  /// Packs the weights and points args_ to them.
  bool pack(const CodesGemm& gemm, std::string* error);
  void run_rows(size_t begin, size_t end) const;

  const GemmKernel* kernel_ = nullptr;
  size_t m_ = 0;
  AlignedBytes a_;
  AlignedBytes w_;
  AlignedBytes bias_;
  AlignedBytes scale_;
  AlignedBytes y_;
  GemmArgs args_ = {};
};

/// Runs `gemm` on codes a [m][k] with `kernel`, which must be built and supported, on `threads`
/// threads, into codes y [m][n]. Returns false and sets `error` where threads or memory are not to
/// be had.
bool run_codes_gemm(const GemmKernel& kernel, const CodesGemm& gemm, const int8_t* a, int8_t* y,
                    size_t threads, std::string* error);

}  // namespace edgekit
