#include "peak.h"

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace edgekit::benchmark {
namespace {

#if defined(__x86_64__)
/// Steps in one call: some microseconds.
constexpr int kSteps = 1000;

constexpr double kOperationsPerProduct = 2;

/// A multiply has a latency of 4 to 5 and a throughput of 2 a cycle: 10 chains hide it.
constexpr int kChains = 12;

__attribute__((target("avx512f,avx512vnni"))) void multiply_zmm() {
  __m512i acc_s32x16[kChains] = {};
  const __m512i a_u8x64 = _mm512_set1_epi32(0x01010101);
  for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(acc_s32x16[i]) : "v"(a_u8x64));
    }
  }
}

__attribute__((target("avx2"))) void multiply_ymm() {
  __m256i acc_s32x8[kChains] = {};
  const __m256i a_u8x32 = _mm256_set1_epi32(0x01010101);
  for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      __asm__ volatile("%{vex%} vpdpbusd %1, %1, %0" : "+x"(acc_s32x8[i]) : "x"(a_u8x32));
    }
  }
}

__attribute__((target("avx2"))) void multiply_pairs() {
  __m256i acc_s32x8[kChains] = {};
  const __m256i a_u8x32 = _mm256_set1_epi32(0x01010101);
  const __m256i ones_s16x16 = _mm256_set1_epi16(1);
  for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      __m256i pairs_s16x16;
      __asm__ volatile("vpmaddubsw %2, %2, %1\n\tvpmaddwd %3, %1, %1\n\tvpaddd %1, %0, %0"
                       : "+x"(acc_s32x8[i]), "=&x"(pairs_s16x16)
                       : "x"(a_u8x32), "x"(ones_s16x16));
    }
  }
}

#if EDGEKIT_HAVE_X86_AMX
/// Four accumulators, as many as the kernel has, by two tiles of rows and two of columns.
void multiply_tiles() {
  struct alignas(64) {
    uint8_t palette = 1;
    uint8_t start_row_and_reserved[15] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  __asm__ volatile("ldtilecfg %0" ::"m"(config));
  for (int step = 0; step < kSteps; ++step) {
    __asm__ volatile(
        "tdpbusd %%tmm6, %%tmm4, %%tmm0\n\ttdpbusd %%tmm7, %%tmm4, %%tmm1\n\t"
        "tdpbusd %%tmm6, %%tmm5, %%tmm2\n\ttdpbusd %%tmm7, %%tmm5, %%tmm3" ::);
  }
  __asm__ volatile("tilerelease");
}

constexpr double kTileOperations = kSteps * 4 * 16 * 16 * 64 * kOperationsPerProduct;
#endif

constexpr double operations(int bytes) { return kSteps * kChains * bytes * kOperationsPerProduct; }

constexpr Peak kPeaks[] = {
    {Isa::kX86Avx2, "vpmaddubsw, vpmaddwd, vpaddd ymm", operations(32), multiply_pairs},
    {Isa::kX86AvxVnni, "vpdpbusd ymm", operations(32), multiply_ymm},
    {Isa::kX86Avx512Vnni, "vpdpbusd zmm", operations(64), multiply_zmm},
#if EDGEKIT_HAVE_X86_AMX
    {Isa::kX86Amx, "tdpbusd", kTileOperations, multiply_tiles},
#endif
};
#endif

const Peak* find_own(Isa isa) {
#if defined(__x86_64__)
  for (const Peak& peak : kPeaks) {
    if (peak.isa == isa) return &peak;
  }
#else
  (void)isa;
#endif
  return nullptr;
}

}  // namespace

const Peak* find_peak(Isa isa) {
  for (;;) {
    const Peak* own = find_own(isa);
    const Isa parent = isa_info(isa).parent;
    if (own != nullptr || parent == isa) return own;
    isa = parent;
  }
}

}  // namespace edgekit::benchmark
