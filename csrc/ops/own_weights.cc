#include "ops/own_weights.h"

#include "kernels/nibbles.h"
#include "ops/check.h"

namespace edgekit {

bool OwnWeights::init(const Blob& blob, size_t count, size_t bits, std::string* error) {
  if (bits != 4 && bits != 8) {
    return fail(error, {"weights of ", std::to_string(bits), " bits are unknown"});
  }
  if (!check_blob(blob, bits == 8 ? count : (count + 1) / 2, 1, "the weights", error)) return false;
  data_ = reinterpret_cast<const int8_t*>(blob.data);
  if (bits == 8) return true;
  own_.resize((count + sizeof(Line) - 1) / sizeof(Line));
  split_nibbles(data_, count, own_.front().weights);
  data_ = own_.front().weights;
  return true;
}

}  // namespace edgekit
