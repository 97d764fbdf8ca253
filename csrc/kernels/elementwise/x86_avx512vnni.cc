#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/elementwise/binary_x86_avx512vnni.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/elementwise/loops.h"
#include "kernels/elementwise/parts_x86_avx512vnni.h"
#include "kernels/elementwise/quantize_x86_avx512vnni.h"

// Tables of 256 entries: four registers hold one, from which AVX512-VBMI picks 64 bytes with two
// instructions. The instruction set does not promise VBMI, so the CPU is asked; without it the
// kernel of x86_avx2 does the work.

namespace edgekit {

void lookup_x8_x8_x86_avx2(const LookupArgs& args);

namespace {

__attribute__((target("avx512vbmi"))) void look_up(const LookupArgs& args) {
  const __m512i table_0 = _mm512_loadu_si512(args.table);
  const __m512i table_1 = _mm512_loadu_si512(args.table + kBytes);
  const __m512i table_2 = _mm512_loadu_si512(args.table + 2 * kBytes);
  const __m512i table_3 = _mm512_loadu_si512(args.table + 3 * kBytes);
  for (size_t i = 0; i < args.size; i += kBytes) {
    const size_t left = args.size - i;
    const __mmask64 bytes = left >= kBytes ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
    const __m512i x = _mm512_maskz_loadu_epi8(bytes, args.x + i);
    const __m512i lower = _mm512_permutex2var_epi8(table_0, x, table_1);
    const __m512i upper = _mm512_permutex2var_epi8(table_2, x, table_3);
    const __m512i y = _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), lower, upper);
    if (left >= kBytes) {
      _mm512_storeu_si512(args.y + i, y);
    } else {
      _mm512_mask_storeu_epi8(args.y + i, bytes, y);
    }
  }
}

}  // namespace

// Where a value may leave int32, the loops clamp before they round.

void add_u8_u8_u8_x86_avx512vnni(const AddArgs& args) {
  const double most =
      kLargestDifference * (magnitude_of(args.ratio_a) + magnitude_of(args.ratio_b));
  const bool swap = first_repeats(args.operands);
  const AddArgs a = swap ? AddArgs{swapped(args.operands), args.ratio_b, args.ratio_a} : args;
  if (a.operands.a_step == 0 || !fits_int32(most)) return add<Storage::kU8>(args);
  run_rows(a.operands, AddStep(a));
}

void mul_u8_u8_u8_x86_avx512vnni(const MulArgs& args) {
  const double most = kLargestDifference * kLargestDifference * magnitude_of(args.multiplier);
  const Operands o = first_repeats(args.operands) ? swapped(args.operands) : args.operands;
  if (o.a_step == 0 || !fits_int32(most)) return mul<Storage::kU8>(args);
  run_rows(o, MulStep(args));
}

void extreme_u8_u8_u8_x86_avx512vnni(const ExtremeArgs& args) {
  const double most =
      kLargestDifference * (magnitude_of(args.ratio_a) + magnitude_of(args.ratio_b));
  const bool swap = first_repeats(args.operands);
  const ExtremeArgs a =
      swap ? ExtremeArgs{swapped(args.operands), args.ratio_b, args.ratio_a, args.larger} : args;
  if (a.operands.a_step == 0 || !fits_int32(most)) return extreme<Storage::kU8>(args);
  if (args.larger) return run_rows(a.operands, ExtremeStep<true>(a));
  run_rows(a.operands, ExtremeStep<false>(a));
}

void quantize_parts_f32_u8_x86_avx512vnni(const QuantizePartsArgs& args) {
  quantize_parts_in_64(args);
}
void quantize_f32_u8_x86_avx512vnni(const QuantizeArgs& args) { quantize(args); }

void lookup_x8_x8_x86_avx512vnni(const LookupArgs& args) {
  if (__builtin_cpu_supports("avx512vbmi")) return look_up(args);
  lookup_x8_x8_x86_avx2(args);
}

}  // namespace edgekit
