#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "delta/chunks.h"
#include "delta/make_recipe.h"
#include "delta/recipe.h"
#include "random.h"
#include "test.h"
#include "trust/sha256.h"

namespace edgekit {
namespace {

using test::Random;

class Streams : public RecipeStreams {
 public:
  Streams(std::string_view recipe, std::string_view base) : recipe_(recipe), base_(base) {}
  size_t read_recipe(char* data, size_t size) override {
    // Pieces of odd sizes, as a pipe gives them.
    const size_t count = std::min({size, recipe_.size(), size_t{997}});
    std::memcpy(data, recipe_.data(), count);
    recipe_.remove_prefix(count);
    return count;
  }
  bool read_base(uint64_t offset, char* data, size_t size) override {
    inside = inside && offset <= base_.size() && size <= base_.size() - offset;
    if (!inside) return false;
    std::memcpy(data, base_.data() + offset, size);
    return true;
  }
  bool write(const char* data, size_t size) override {
    result.append(data, size);
    return true;
  }
  std::string result;
  bool inside = true;

 private:
  std::string_view recipe_;
  std::string_view base_;
};

BaseFacts describe(std::string_view base) {
  BaseFacts facts;
  facts.size = base.size();
  Sha256 hash;
  hash.update(base.data(), base.size());
  hash.finish(facts.sha256);
  return facts;
}

std::string random_bytes(Random& random, size_t size) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random.integer(0, 255));
  return bytes;
}

std::vector<Chunk> cut(std::string_view bytes) {
  std::vector<Chunk> chunks;
  Chunker chunker;
  chunker.add(bytes.data(), bytes.size(), &chunks);
  chunker.finish(&chunks);
  return chunks;
}

void check_result(const std::string& recipe, const std::string& base, const std::string& result) {
  Streams streams(recipe, base);
  std::string error;
  EDGEKIT_CHECK(follow_recipe(&streams, describe(base), result.size(), &error), error);
  EDGEKIT_CHECK(error.empty(), error);
  EDGEKIT_CHECK(streams.result == result, "other bytes of " + std::to_string(result.size()));
}

// Takes pieces of `base`, changes some a little, and puts new ones between.
std::string edit(Random& random, const std::string& base) {
  std::string result;
  const size_t pieces = random.size(0, 6);
  for (size_t i = 0; i < pieces; ++i) {
    if (base.empty() || random.one_in(4)) {
      result += random_bytes(random, random.size(0, 700));
      continue;
    }
    const size_t begin = random.size(0, base.size() - 1);
    std::string piece = base.substr(begin, random.size(1, base.size() - begin));
    if (random.one_in(2)) {
      for (char& byte : piece) byte = static_cast<char>(byte + random.integer(-1, 1));
    }
    result += piece;
  }
  return result;
}

EDGEKIT_TEST(recipe_makes_the_result) {
  Random random(1);
  for (int round = 0; round < 300; ++round) {
    const std::string base =
        random.one_in(8)
            ? std::string(random.size(0, 5000), 'x')
            : random_bytes(random, random.one_in(5) ? random.size(0, 70) : random.size(0, 40000));
    const std::string result = edit(random, base);
    check_result(make_recipe(base, result), base, result);
    check_result(make_recipe(describe(base), cut(base), result), base, result);
  }
}

EDGEKIT_TEST(equal_parts_cost_little) {
  Random random(2);
  const std::string base = random_bytes(random, 500000);
  std::string moved = base.substr(250000) + "in between" + base.substr(0, 250000);
  EDGEKIT_CHECK(make_recipe(base, base).size() < 100,
                std::to_string(make_recipe(base, base).size()));
  EDGEKIT_CHECK(make_recipe(base, moved).size() < 200,
                std::to_string(make_recipe(base, moved).size()));
  EDGEKIT_CHECK(make_recipe(describe(base), cut(base), base).size() < 100, "of chunks");
  // Two borders are cut anew.
  EDGEKIT_CHECK(make_recipe(describe(base), cut(base), moved).size() < 3 * kMostChunk, "of chunks");
  std::string trained = base;
  for (size_t i = 100000; i < 200000; ++i) {
    if (random.one_in(4)) trained[i] = static_cast<char>(trained[i] + random.integer(-1, 1));
  }
  // A fifth of the bytes or less differ, by one: 0.8 bits each for whether, and a bit for which.
  EDGEKIT_CHECK(make_recipe(base, trained).size() < 100000 / 5,
                std::to_string(make_recipe(base, trained).size()));
}

EDGEKIT_TEST(chunks_follow_the_content) {
  Random random(3);
  const std::string base = random_bytes(random, 300000);
  const std::vector<Chunk> chunks = cut(base);
  uint64_t end = 0;
  for (const Chunk& chunk : chunks) {
    EDGEKIT_CHECK(chunk.offset == end, std::to_string(chunk.offset));
    EDGEKIT_CHECK(chunk.size <= kMostChunk, std::to_string(chunk.size));
    end += chunk.size;
    EDGEKIT_CHECK(chunk.size >= kLeastChunk || end == base.size(), std::to_string(chunk.size));
  }
  EDGEKIT_CHECK(end == base.size(), std::to_string(end));
  const std::vector<Chunk> shifted = cut("a few bytes before" + base);
  size_t shared = 0;
  for (const Chunk& chunk : shifted) {
    shared +=
        static_cast<size_t>(std::count_if(chunks.begin(), chunks.end(), [&](const Chunk& old) {
          return std::memcmp(old.digest, chunk.digest, sizeof old.digest) == 0;
        }));
  }
  EDGEKIT_CHECK(shared + 3 >= chunks.size(), std::to_string(shared));
  EDGEKIT_CHECK(cut("").empty(), "nothing");
  EDGEKIT_CHECK(cut(std::string(100000, char{0})).size() == 7, "no border in equal bytes");
}

EDGEKIT_TEST(damaged_recipes_are_refused_or_stay_inside) {
  Random random(4);
  const std::string base = random_bytes(random, 5000);
  const std::string result = edit(random, base) + base.substr(100, 300) + "end";
  const std::string recipe = make_recipe(base, result);
  const BaseFacts facts = describe(base);
  for (size_t size = 0; size < recipe.size(); ++size) {
    Streams streams(std::string_view(recipe).substr(0, size), base);
    std::string error;
    EDGEKIT_CHECK(!follow_recipe(&streams, facts, result.size(), &error),
                  "cut after " + std::to_string(size));
    EDGEKIT_CHECK(!error.empty(), "no reason");
  }
  for (int round = 0; round < 3000; ++round) {
    std::string forged = recipe;
    const size_t at = random.size(0, forged.size() - 1);
    forged[at] = static_cast<char>(random.integer(0, 255));
    Streams streams(forged, base);
    std::string error;
    const bool followed = follow_recipe(&streams, facts, result.size(), &error);
    EDGEKIT_CHECK(streams.inside, "round " + std::to_string(round));
    EDGEKIT_CHECK(streams.result.size() <= result.size(), "round " + std::to_string(round));
    EDGEKIT_CHECK(followed == error.empty(), error);
  }
  const auto refuse = [&](std::string_view bytes, const std::string& other, size_t size,
                          std::string_view words) {
    Streams streams(bytes, other);
    std::string error;
    EDGEKIT_CHECK(!follow_recipe(&streams, describe(other), size, &error), "followed");
    EDGEKIT_CHECK(error.find(words) != std::string::npos, error);
  };
  refuse(recipe, base + "x", result.size(), "for another file");
  refuse(recipe, "y" + base.substr(1), result.size(), "for another file");
  refuse(recipe, base, result.size() + 1, "makes another file");
  refuse(recipe + "x", base, result.size(), "bytes behind its end");
  refuse("not a recipe", base, result.size(), "is none");
  refuse(random_bytes(random, 200), base, result.size(), "is none");
}

}  // namespace
}  // namespace edgekit
