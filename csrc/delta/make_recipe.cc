#include "delta/make_recipe.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "delta/range_coder.h"
#include "trust/sha256.h"

namespace edgekit {
namespace {

struct Step {
  StepKind kind;
  uint64_t length;
  /// Where in the base it begins; unused by kNew.
  uint64_t base;
};

void append_u64(uint64_t value, std::string* out) {
  for (int i = 0; i < 8; ++i) *out += static_cast<char>(value >> (8 * i));
}

int count_bits(uint64_t value) {
  int bits = 0;
  for (; value != 0; value >>= 1) ++bits;
  return bits;
}

// Writes what follow_recipe() reads.
class RecipeWriter {
 public:
  RecipeWriter(const BaseFacts& base, uint64_t size) {
    out_ = kRecipeMagic;
    append_u64(base.size, &out_);
    append_u64(size, &out_);
    out_.append(reinterpret_cast<const char*>(base.sha256), sizeof base.sha256);
  }

  /// @param base the base's bytes; read by kAdd alone.
  void add(const Step& step, std::string_view base, std::string_view result) {
    const auto kind = static_cast<unsigned>(step.kind);
    encoder_.put(&models_.kind[last_kind_], kind);
    last_kind_ = kind;
    const int bits = count_bits(step.length);
    encoder_.put(&models_.length_bits[kind], static_cast<unsigned>(bits));
    encoder_.put_plain(step.length, bits - 1);
    if (step.kind != StepKind::kNew) {
      const bool backwards = step.base < base_end_;
      const uint64_t distance = backwards ? base_end_ - step.base : step.base - base_end_;
      const int width = count_bits(distance);
      encoder_.put(&models_.distance_bits[kind],
                   static_cast<unsigned>(width) << 1 | static_cast<unsigned>(backwards));
      if (width > 0) encoder_.put_plain(distance, width - 1);
      base_end_ = step.base + step.length;
    }
    for (uint64_t i = 0; step.kind != StepKind::kCopy && i < step.length; ++i) {
      const auto byte = static_cast<uint8_t>(result[static_cast<size_t>(made_ + i)]);
      if (step.kind == StepKind::kNew) {
        encoder_.put(&models_.fresh[(made_ + i) & 3], byte);
        continue;
      }
      const auto difference = static_cast<uint8_t>(
          byte - static_cast<uint8_t>(base[static_cast<size_t>(step.base + i)]));
      const unsigned differs = difference != 0;
      encoder_.put(&models_.is_zero[zeros_ & 3], differs);
      zeros_ = zeros_ << 1 | differs;
      if (differs != 0) encoder_.put(&models_.difference, difference);
    }
    made_ += step.length;
  }

  std::string finish() {
    encoder_.finish();
    return out_;
  }

 private:
  std::string out_;
  RangeEncoder encoder_{&out_};
  RecipeModels models_;
  unsigned last_kind_ = 0;
  unsigned zeros_ = 0;
  uint64_t base_end_ = 0;
  uint64_t made_ = 0;
};

constexpr size_t kSeed = 32;
constexpr size_t kSeedStep = 16;
constexpr uint64_t kMultiplier = 0x9e3779b97f4a7c15ULL;

// Finds where the base holds a run of kSeed bytes.
class SeedIndex {
 public:
  explicit SeedIndex(std::string_view base) : base_(base) {
    size_t slots = 16;
    while (slots < base.size() / kSeedStep * 2) slots *= 2;
    places_.assign(slots, 0);
    for (size_t at = 0; at + kSeed <= base.size(); at += kSeedStep) {
      const size_t slot = find(hash(base.substr(at, kSeed)), base.data() + at);
      // Of equal runs, constant ones say, the first is enough.
      if (places_[slot] == 0) places_[slot] = at + 1;
    }
  }

  static uint64_t hash(std::string_view run) {
    uint64_t value = 0;
    for (const char byte : run) value = value * kMultiplier + static_cast<uint8_t>(byte);
    return value;
  }

  /// Returns the place of the run at `data`, whose hash is given, or nowhere.
  size_t look_up(uint64_t value, const char* data) const { return places_[find(value, data)] - 1; }

  static constexpr size_t kNowhere = ~size_t{0};

 private:
  size_t find(uint64_t value, const char* data) const {
    size_t slot = static_cast<size_t>(value * kMultiplier >> 20) & (places_.size() - 1);
    while (places_[slot] != 0 && std::memcmp(base_.data() + places_[slot] - 1, data, kSeed) != 0) {
      slot = (slot + 1) & (places_.size() - 1);
    }
    return slot;
  }

  std::string_view base_;
  // One more than the place; 0 where nothing is.
  std::vector<size_t> places_;
};

struct Match {
  size_t result;
  size_t base;
  size_t length;
};

// Returns ranges of the result that are in the base, in order and apart.
std::vector<Match> find_matches(std::string_view base, std::string_view result) {
  std::vector<Match> matches;
  if (base.size() < kSeed || result.size() < kSeed) return matches;
  const SeedIndex index(base);
  uint64_t power = 1;
  for (size_t i = 0; i < kSeed; ++i) power *= kMultiplier;
  uint64_t hash = SeedIndex::hash(result.substr(0, kSeed));
  size_t hashed = 0;
  size_t end = 0;
  for (size_t at = 0; at + kSeed <= result.size();) {
    for (; hashed < at; ++hashed) {
      hash = hash * kMultiplier + static_cast<uint8_t>(result[hashed + kSeed]) -
             power * static_cast<uint8_t>(result[hashed]);
    }
    // Files keep their order: what goes on behind the last match is the best one.
    size_t place = SeedIndex::kNowhere;
    if (!matches.empty()) {
      const Match& last = matches.back();
      const size_t next = last.base + (at - last.result);
      if (next + kSeed <= base.size() &&
          std::memcmp(base.data() + next, result.data() + at, kSeed) == 0) {
        place = next;
      }
    }
    if (place == SeedIndex::kNowhere) place = index.look_up(hash, result.data() + at);
    if (place == SeedIndex::kNowhere) {
      ++at;
      continue;
    }
    size_t begin = at;
    while (begin > end && place > 0 && base[place - 1] == result[begin - 1]) --begin, --place;
    size_t length = at - begin + kSeed;
    while (begin + length < result.size() && place + length < base.size() &&
           base[place + length] == result[begin + length]) {
      ++length;
    }
    matches.push_back({begin, place, length});
    at = end = begin + length;
  }
  return matches;
}

constexpr size_t kBlock = 64;
// Bits that another step costs, about.
constexpr float kStepCost = 40.0F;
constexpr size_t kWays = 4;
constexpr float kImpossible = 1e30F;

// Bits that a difference costs, about: small ones are frequent where there are any.
float difference_cost(uint8_t difference) {
  const int size = std::abs(static_cast<int>(static_cast<int8_t>(difference)));
  if (size == 0) return 1.0F;
  if (size <= 2) return 3.5F;
  if (size <= 8) return 5.5F;
  return size <= 32 ? 7.5F : 9.0F;
}

// Adds the steps that make result[begin, end), which is nowhere in the base as it is: block by
// block, the cheapest of new bytes and differences from where one of the `bases` says that byte 0
// of the result would be. (Viterbi's algorithm.)
void fill_gap(std::string_view base, std::string_view result, size_t begin, size_t end,
              const int64_t (&bases)[kWays - 1], std::vector<Step>* steps) {
  const size_t size = end - begin;
  float fresh[256];
  size_t counts[256] = {};
  for (size_t i = begin; i < end; ++i) ++counts[static_cast<uint8_t>(result[i])];
  for (size_t i = 0; i < 256; ++i) {
    fresh[i] = counts[i] == 0
                   ? 0.0F
                   : std::log2(static_cast<float>(size) / static_cast<float>(counts[i])) +
                         8.0F / static_cast<float>(counts[i]);
  }
  const size_t blocks = (size + kBlock - 1) / kBlock;
  std::vector<uint8_t> from(blocks * kWays);
  float costs[kWays] = {};
  for (size_t block = 0; block < blocks; ++block) {
    const size_t first = begin + block * kBlock;
    const size_t last = std::min(first + kBlock, end);
    size_t best = 0;
    for (size_t way = 1; way < kWays; ++way) best = costs[way] < costs[best] ? way : best;
    float next[kWays];
    for (size_t way = 0; way < kWays; ++way) {
      float cost = 0.0F;
      if (way == 0) {
        for (size_t i = first; i < last; ++i) cost += fresh[static_cast<uint8_t>(result[i])];
      } else {
        const int64_t place = bases[way - 1] + static_cast<int64_t>(first);
        if (place < 0 || static_cast<uint64_t>(place) + (last - first) > base.size()) {
          cost = kImpossible;
        } else {
          for (size_t i = first; i < last; ++i) {
            cost += difference_cost(static_cast<uint8_t>(
                static_cast<uint8_t>(result[i]) -
                static_cast<uint8_t>(base[static_cast<size_t>(place) + i - first])));
          }
        }
      }
      const bool stays = costs[way] <= costs[best] + kStepCost;
      from[block * kWays + way] = static_cast<uint8_t>(stays ? way : best);
      next[way] = std::min(kImpossible, cost + (stays ? costs[way] : costs[best] + kStepCost));
    }
    std::copy(next, next + kWays, costs);
  }
  std::vector<uint8_t> ways(blocks);
  size_t way = 0;
  for (size_t other = 1; other < kWays; ++other) way = costs[other] < costs[way] ? other : way;
  for (size_t block = blocks; block-- > 0;) {
    ways[block] = static_cast<uint8_t>(way);
    way = from[block * kWays + way];
  }
  for (size_t block = 0; block < blocks;) {
    size_t next = block;
    while (next < blocks && ways[next] == ways[block]) ++next;
    const size_t first = begin + block * kBlock;
    const uint64_t length = std::min(begin + next * kBlock, end) - first;
    if (ways[block] == 0) {
      steps->push_back({StepKind::kNew, length, 0});
    } else {
      steps->push_back(
          {StepKind::kAdd, length,
           static_cast<uint64_t>(bases[ways[block] - 1] + static_cast<int64_t>(first))});
    }
    block = next;
  }
}

std::vector<Step> find_steps(std::string_view base, std::string_view result) {
  std::vector<Step> steps;
  std::vector<Match> matches = find_matches(base, result);
  matches.push_back({result.size(), base.size(), 0});
  int64_t before = 0;
  size_t made = 0;
  for (const Match& match : matches) {
    const int64_t after = static_cast<int64_t>(match.base) - static_cast<int64_t>(match.result);
    if (match.result > made) fill_gap(base, result, made, match.result, {before, after, 0}, &steps);
    if (match.length > 0) steps.push_back({StepKind::kCopy, match.length, match.base});
    made = match.result + match.length;
    before = after;
  }
  return steps;
}

}  // namespace

std::string make_recipe(std::string_view base, std::string_view result) {
  BaseFacts facts;
  facts.size = base.size();
  Sha256 hash;
  hash.update(base.data(), base.size());
  hash.finish(facts.sha256);
  RecipeWriter writer(facts, result.size());
  for (const Step& step : find_steps(base, result)) writer.add(step, base, result);
  return writer.finish();
}

std::string make_recipe(const BaseFacts& base, const std::vector<Chunk>& chunks,
                        std::string_view result) {
  std::map<std::string_view, const Chunk*> known;
  for (const Chunk& chunk : chunks) {
    known.emplace(
        std::string_view(reinterpret_cast<const char*>(chunk.digest), sizeof chunk.digest), &chunk);
  }
  std::vector<Chunk> wanted;
  Chunker chunker;
  chunker.add(result.data(), result.size(), &wanted);
  chunker.finish(&wanted);
  std::vector<Step> steps;
  for (const Chunk& chunk : wanted) {
    const auto found = known.find(
        std::string_view(reinterpret_cast<const char*>(chunk.digest), sizeof chunk.digest));
    Step step = {StepKind::kNew, chunk.size, 0};
    if (found != known.end() && found->second->size == chunk.size) {
      step = {StepKind::kCopy, chunk.size, found->second->offset};
    }
    Step* const last = steps.empty() ? nullptr : &steps.back();
    if (last != nullptr && last->kind == step.kind &&
        (step.kind == StepKind::kNew || last->base + last->length == step.base)) {
      last->length += step.length;
    } else {
      steps.push_back(step);
    }
  }
  RecipeWriter writer(base, result.size());
  for (const Step& step : steps) writer.add(step, {}, result);
  return writer.finish();
}

}  // namespace edgekit
