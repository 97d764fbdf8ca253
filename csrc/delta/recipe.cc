#include "delta/recipe.h"

#include <algorithm>
#include <cstring>

namespace edgekit {
namespace {

constexpr size_t kBuffer = 16384;

// Bytes of a recipe, a buffer at a time.
class RecipeSource {
 public:
  explicit RecipeSource(RecipeStreams* streams) : streams_(streams) {}

  uint8_t next() {
    if (at_ == filled_) {
      at_ = 0;
      filled_ = ended_ ? 0 : streams_->read_recipe(buffer_, sizeof buffer_);
      if (filled_ == 0) {
        ended_ = true;
        return 0;
      }
    }
    return static_cast<uint8_t>(buffer_[at_++]);
  }

  bool read(char* data, size_t size) {
    for (size_t i = 0; i < size; ++i) data[i] = static_cast<char>(next());
    return !ended_;
  }

  /// Whether more was asked for than there was.
  bool ended() const { return ended_; }

  /// Whether nothing is left.
  bool at_end() {
    if (at_ < filled_) return false;
    next();
    return ended_;
  }

 private:
  RecipeStreams* streams_;
  size_t at_ = 0;
  size_t filled_ = 0;
  bool ended_ = false;
  char buffer_[kBuffer];
};

uint64_t read_u64(const char* data) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | static_cast<uint8_t>(data[i]);
  return value;
}

bool fail(std::string* error, const char* what) {
  *error = std::string("the recipe ") + what;
  return false;
}

// Reads a whole number of `bits` bits; the highest of them, which is 1, is not written.
template <typename Decoder>
uint64_t get_number(Decoder* decoder, int bits) {
  if (bits == 0) return 0;
  return uint64_t{1} << (bits - 1) | decoder->get_plain(bits - 1);
}

}  // namespace

bool follow_recipe(RecipeStreams* streams, const BaseFacts& base, uint64_t size,
                   std::string* error) {
  RecipeSource source(streams);
  char header[kRecipeHeader];
  if (!source.read(header, sizeof header) || std::memcmp(header, kRecipeMagic, 8) != 0) {
    return fail(error, "is none");
  }
  if (read_u64(header + 8) != base.size ||
      std::memcmp(header + 24, base.sha256, sizeof base.sha256) != 0) {
    return fail(error, "is for another file than the one that is here");
  }
  if (read_u64(header + 16) != size) return fail(error, "makes another file than is wanted");
  RecipeModels models;
  RangeDecoder<RecipeSource> decoder(&source);
  char buffer[kBuffer];
  unsigned kind = static_cast<unsigned>(StepKind::kCopy);
  uint64_t base_end = 0;
  unsigned zeros = 0;
  for (uint64_t made = 0; made < size;) {
    kind = decoder.get(&models.kind[kind]);
    if (kind >= kStepKinds) return fail(error, "is damaged: a step of no kind");
    const uint64_t length =
        get_number(&decoder, static_cast<int>(decoder.get(&models.length_bits[kind])));
    if (length == 0 || length > size - made) {
      return fail(error, "is damaged: a step beyond the end");
    }
    const bool is_new = kind == static_cast<unsigned>(StepKind::kNew);
    uint64_t begin = 0;
    if (!is_new) {
      // The number of bits, and whether the distance is backwards.
      const unsigned code = decoder.get(&models.distance_bits[kind]);
      const uint64_t distance = get_number(&decoder, static_cast<int>(code >> 1));
      begin = (code & 1) != 0 ? base_end - distance : base_end + distance;
      if (begin > base.size || length > base.size - begin) {
        return fail(error, "is damaged: a range outside of the base");
      }
      base_end = begin + length;
    }
    for (uint64_t done = 0; done < length;) {
      const auto count = static_cast<size_t>(std::min<uint64_t>(length - done, sizeof buffer));
      if (!is_new && !streams->read_base(begin + done, buffer, count)) {
        return fail(error, "could not be followed: the base cannot be read");
      }
      for (size_t i = 0; kind != static_cast<unsigned>(StepKind::kCopy) && i < count; ++i) {
        if (is_new) {
          buffer[i] = static_cast<char>(decoder.get(&models.fresh[(made + i) & 3]));
          continue;
        }
        const unsigned differs = decoder.get(&models.is_zero[zeros & 3]);
        zeros = zeros << 1 | differs;
        if (differs != 0) {
          buffer[i] =
              static_cast<char>(static_cast<uint8_t>(buffer[i]) + decoder.get(&models.difference));
        }
      }
      if (source.ended()) return fail(error, "ended too early");
      if (!streams->write(buffer, count)) {
        return fail(error, "could not be followed: no room for what it makes");
      }
      done += count;
      made += count;
    }
  }
  return source.at_end() || fail(error, "is damaged: bytes behind its end");
}

}  // namespace edgekit
