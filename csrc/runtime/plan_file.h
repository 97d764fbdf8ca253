#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "runtime/aligned_bytes.h"

namespace edgekit {

/// The container around a plan's two sections, read-only and checked; docs/plan-format.md gives
/// the layout.
///
/// open() maps the file privately: until the object goes, the file may be replaced (renamed over)
/// but not written to or truncated, as with any mapped program.
class PlanFile {
 public:
  /// The format that this runtime reads.
  static constexpr uint32_t kFormatVersion = 2;

  PlanFile() = default;
  ~PlanFile();
  PlanFile(const PlanFile&) = delete;
  PlanFile& operator=(const PlanFile&) = delete;

  /// Maps the file at `path` and checks header and checksum. Returns false and sets `error`, which
  /// names the path, when it can't be read or is damaged.
  bool open(const char* path, std::string* error);

  /// The same from a copy of `size` bytes.
  bool copy(const void* data, size_t size, std::string* error);

  /// Bytes of the whole file.
  size_t size() const { return size_; }
  const uint8_t* bytes() const { return bytes_; }

  /// The FlatBuffers section, aligned to 64, not verified.
  const uint8_t* graph() const { return bytes_ + graph_offset_; }
  size_t graph_size() const { return graph_size_; }

  /// The constants, aligned to 64.
  const uint8_t* constants() const { return bytes_ + constants_offset_; }
  size_t constants_size() const { return constants_size_; }

 private:
  bool check(std::string* error);

  const uint8_t* bytes_ = nullptr;
  size_t size_ = 0;
  bool mapped_ = false;
  AlignedBytes copy_;
  size_t graph_offset_ = 0;
  size_t graph_size_ = 0;
  size_t constants_offset_ = 0;
  size_t constants_size_ = 0;
};

}  // namespace edgekit
