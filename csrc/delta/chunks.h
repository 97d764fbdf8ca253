#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace edgekit {

/// A piece of a file, delimited by its own content, so that the same content gives the same pieces
/// wherever it lies (Xia et al., "FastCDC: a fast and efficient content-defined chunking approach
/// for data deduplication", 2016; here with one mask).
struct Chunk {
  uint64_t offset = 0;
  uint32_t size = 0;
  /// The first 16 bytes of its SHA-256.
  uint8_t digest[16] = {};
};

inline constexpr size_t kLeastChunk = 1024;
inline constexpr size_t kMostChunk = 16384;

/// Cuts a file that comes piece by piece into chunks.
class Chunker {
 public:
  /// Takes the next bytes; appends each chunk that ended in them.
  void add(const char* data, size_t size, std::vector<Chunk>* chunks);

  /// Appends the last chunk, unless nothing is left.
  void finish(std::vector<Chunk>* chunks);

 private:
  void cut(std::vector<Chunk>* chunks);

  uint64_t offset_ = 0;
  uint64_t hash_ = 0;
  size_t held_ = 0;
  char bytes_[kMostChunk];
};

}  // namespace edgekit
