#include "ops/code_table.h"

#include "kernels/rounding.h"

namespace edgekit {

CodeTable stored_table(const int8_t* codes, Storage storage) {
  // Adding 128 modulo 256 flips the highest bit.
  const uint8_t index_flip = storage == Storage::kU8 ? 0x00 : 0x80;
  const uint8_t value_flip = storage == Storage::kU8 ? 0x80 : 0x00;
  CodeTable table;
  for (size_t byte = 0; byte < 256; ++byte) {
    table.bytes[byte] =
        static_cast<uint8_t>(static_cast<uint8_t>(codes[byte ^ index_flip]) ^ value_flip);
  }
  return table;
}

CodeTable requantize_table(const TensorView& input, const TensorView& output, int32_t lo,
                           int32_t hi, Storage storage) {
  const float multiplier = input.scale / output.scale;
  int8_t codes[256];
  for (int32_t q = -128; q <= 127; ++q) {
    const float v = clamp_float(static_cast<float>(q - input.zero_point) * multiplier,
                                static_cast<float>(lo - output.zero_point),
                                static_cast<float>(hi - output.zero_point));
    codes[q + 128] = static_cast<int8_t>(output.zero_point + round_to_even(v));
  }
  return stored_table(codes, storage);
}

}  // namespace edgekit
