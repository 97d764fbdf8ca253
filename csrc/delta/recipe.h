#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "delta/range_coder.h"

namespace edgekit {

// A recipe makes a file of another one, the base: ranges of the base as they are, ranges of it to
// which differences are added, and new bytes.
//
//   "EKDELTA1"            8 bytes
//   size of the base      8 bytes, little-endian
//   size of the result    8 bytes, little-endian
//   SHA-256 of the base   32 bytes
//   steps                 range-coded, until the result is whole
//
// A step is its kind, its length, and for the first two kinds where in the base it begins, as the
// distance from the end of the last range taken. A difference is a byte, modulo 256: int8 weights
// that were trained a little further differ little. Whether the result is the right one is for its
// digest to say, not for the recipe.

inline constexpr char kRecipeMagic[] = "EKDELTA1";
inline constexpr size_t kRecipeHeader = 8 + 8 + 8 + 32;

enum class StepKind : uint8_t { kCopy, kAdd, kNew };
inline constexpr unsigned kStepKinds = 3;

/// A file that recipes are for.
struct BaseFacts {
  uint64_t size = 0;
  uint8_t sha256[32] = {};
};

/// What the coder has learnt of steps.
struct RecipeModels {
  /// By the kind before.
  BitTree<2> kind[kStepKinds];
  /// Of lengths and distances, by kind: how many bits there are.
  BitTree<6> length_bits[kStepKinds];
  BitTree<7> distance_bits[kStepKinds];
  /// Whether a difference is 0, by the two before it.
  BitModel is_zero[4];
  BitTree<8> difference;
  /// By the place in a word of 4 bytes.
  BitTree<8> fresh[4];
};

/// Where a recipe comes from and where its result goes.
class RecipeStreams {
 public:
  virtual ~RecipeStreams() = default;
  /// Reads up to `size` bytes of the recipe; 0 at its end and where reading failed.
  virtual size_t read_recipe(char* data, size_t size) = 0;
  /// Reads `size` bytes of the base, all of them inside of it.
  virtual bool read_base(uint64_t offset, char* data, size_t size) = 0;
  virtual bool write(const char* data, size_t size) = 0;
};

/// Follows a recipe.
///
/// @param base the base that is there: its size and SHA-256.
/// @param size bytes that the result must have.
/// Returns false and sets `error` where the recipe is damaged, is for another base or result, or a
/// stream failed; what was written until then is of no use.
bool follow_recipe(RecipeStreams* streams, const BaseFacts& base, uint64_t size,
                   std::string* error);

}  // namespace edgekit
