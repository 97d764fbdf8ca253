#include "delta/chunks.h"

#include <cstring>

#include "trust/sha256.h"

namespace edgekit {
namespace {

// One place in 4096 is a border: with the least size, chunks of about 5 kB.
constexpr uint64_t kBorder = 0xfffULL << 40;

struct Gears {
  uint64_t values[256];
};

// Numbers without a pattern (Steele, Lea and Flood, "Fast splittable pseudorandom number
// generators", 2014).
constexpr Gears make_gears() {
  Gears gears = {};
  uint64_t state = 0;
  for (uint64_t& value : gears.values) {
    state += 0x9e3779b97f4a7c15ULL;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    value = z ^ (z >> 31);
  }
  return gears;
}

constexpr Gears kGears = make_gears();

}  // namespace

void Chunker::add(const char* data, size_t size, std::vector<Chunk>* chunks) {
  for (size_t i = 0; i < size; ++i) {
    bytes_[held_++] = data[i];
    hash_ = (hash_ << 1) + kGears.values[static_cast<uint8_t>(data[i])];
    if (held_ == kMostChunk || (held_ >= kLeastChunk && (hash_ & kBorder) == 0)) cut(chunks);
  }
}

void Chunker::finish(std::vector<Chunk>* chunks) {
  if (held_ > 0) cut(chunks);
}

void Chunker::cut(std::vector<Chunk>* chunks) {
  Chunk chunk;
  chunk.offset = offset_;
  chunk.size = static_cast<uint32_t>(held_);
  Sha256 hash;
  hash.update(bytes_, held_);
  uint8_t digest[32];
  hash.finish(digest);
  std::memcpy(chunk.digest, digest, sizeof chunk.digest);
  chunks->push_back(chunk);
  offset_ += held_;
  held_ = 0;
  hash_ = 0;
}

}  // namespace edgekit
