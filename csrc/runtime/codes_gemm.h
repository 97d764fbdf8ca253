#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/gemm/gemm.h"

namespace edgekit {

/// One matrix product on plain int8 codes with any kernel that this CPU can run:
///
///   acc[i, j] = bias[j] + sum_l a[i, l] * w[j, l]
///   y[i, j]   = clamp(zero_point + rne(float32(acc[i, j]) * scale[j]), lo, hi)
///
/// a [m][k], w [n][k] and y [m][n] are row-major. An input zero point is the caller's to fold into
/// bias. The weights are packed and a is copied into the kernel's storage at each call: meant for
/// tests and for trying kernels out.
struct CodesGemm {
  size_t m;
  size_t n;
  size_t k;
  const int8_t* a;
  const int8_t* w;
  const int32_t* bias;
  const float* scale;
  int32_t zero_point;
  int32_t lo;
  int32_t hi;
  int8_t* y;
};

/// Runs `gemm` with `kernel`, which must be built and supported, on `threads` threads. Returns
/// false and sets `error` where threads or memory are not to be had.
bool run_codes_gemm(const GemmKernel& kernel, const CodesGemm& gemm, size_t threads,
                    std::string* error);

}  // namespace edgekit
