#include "runtime/plan_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "runtime/crc32c.h"

namespace edgekit {
namespace {

constexpr char kMagic[8] = {'E', 'D', 'G', 'E', 'K', 'I', 'T', '\n'};
constexpr size_t kHeaderSize = 64;
// The checksum covers everything behind itself.
constexpr size_t kChecked = 16;

// Little-endian, as every number of the format.
template <typename T>
T read(const uint8_t* bytes, size_t offset) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    value = static_cast<T>(value | static_cast<T>(T{bytes[offset + i]} << (8 * i)));
  }
  return value;
}

}  // namespace

PlanFile::~PlanFile() {
  if (mapped_) munmap(const_cast<uint8_t*>(bytes_), size_);
}

bool PlanFile::open(const char* path, std::string* error) {
  const auto fail = [&](const std::string& what) {
    *error = std::string(path) + ": " + what;
    return false;
  };
  const int file = ::open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return fail(std::string("cannot open the plan: ") + std::strerror(errno));
  struct stat status;
  if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(file);
    return fail("not a file");
  }
  if (static_cast<uint64_t>(status.st_size) > SIZE_MAX - kAlignment) {
    close(file);
    return fail("larger than this machine's memory can be");
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ < kHeaderSize) {
    close(file);
    return fail("not a plan: " + std::to_string(size_) + " bytes, less than a header");
  }
  int flags = MAP_PRIVATE;
#ifdef MAP_POPULATE
  flags |= MAP_POPULATE;
#endif
  void* const map = mmap(nullptr, size_, PROT_READ, flags, file, 0);
  const int code = errno;
  close(file);
  if (map == MAP_FAILED) return fail(std::string("cannot map the plan: ") + std::strerror(code));
  bytes_ = static_cast<const uint8_t*>(map);
  mapped_ = true;
  std::string reason;
  return check(&reason) || fail(reason);
}

bool PlanFile::copy(const void* data, size_t size, std::string* error) {
  if (size < kHeaderSize) {
    *error = "not a plan: " + std::to_string(size) + " bytes, less than a header";
    return false;
  }
  copy_ = make_aligned_bytes(size);
  if (copy_ == nullptr) {
    *error = "no memory for a plan of " + std::to_string(size) + " bytes";
    return false;
  }
  std::memcpy(copy_.get(), data, size);
  bytes_ = copy_.get();
  size_ = size;
  return check(error);
}

bool PlanFile::check(std::string* error) {
  const auto fail = [error](const std::string& what) {
    *error = what;
    return false;
  };
  if (std::memcmp(bytes_, kMagic, sizeof kMagic) != 0) {
    return fail("not a plan: the file does not begin with EDGEKIT");
  }
  const auto version = read<uint32_t>(bytes_, 8);
  if (version != kFormatVersion) {
    return fail("the plan has format " + std::to_string(version) + ", this edgekit reads format " +
                std::to_string(kFormatVersion) + ": deploy the model again");
  }
  const auto file_size = read<uint64_t>(bytes_, 16);
  if (file_size != size_) {
    return fail("the plan is truncated or was appended to: it should have " +
                std::to_string(file_size) + " bytes and has " + std::to_string(size_));
  }
  if (crc32c(bytes_ + kChecked, size_ - kChecked) != read<uint32_t>(bytes_, 12)) {
    return fail("the plan is damaged: its checksum does not match");
  }
  const auto graph_offset = read<uint64_t>(bytes_, 24);
  const auto graph_size = read<uint64_t>(bytes_, 32);
  const auto constants_offset = read<uint64_t>(bytes_, 40);
  const auto constants_size = read<uint64_t>(bytes_, 48);
  if (graph_offset != kHeaderSize || graph_size > size_ - kHeaderSize ||
      constants_offset != align_up(static_cast<size_t>(kHeaderSize + graph_size)) ||
      constants_offset > size_ || constants_size != size_ - constants_offset ||
      read<uint64_t>(bytes_, 56) != 0) {
    return fail("the plan is damaged: its sections do not fit the file");
  }
  graph_offset_ = static_cast<size_t>(graph_offset);
  graph_size_ = static_cast<size_t>(graph_size);
  constants_offset_ = static_cast<size_t>(constants_offset);
  constants_size_ = static_cast<size_t>(constants_size);
  return true;
}

}  // namespace edgekit
