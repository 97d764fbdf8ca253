#include "board/patch.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "trust/sha256.h"

namespace edgekit::board {
namespace {

bool fail_with_errno(const std::string& path, std::string* error) {
  *error = path + ": " + std::strerror(errno);
  return false;
}

class FileStreams : public RecipeStreams {
 public:
  FileStreams(const Descriptor& recipe, const Descriptor& base, const Descriptor& result)
      : recipe_(recipe), base_(base), result_(result) {}

  size_t read_recipe(char* data, size_t size) override {
    return static_cast<size_t>(std::max<ssize_t>(recipe_.read_fully(data, size), 0));
  }
  bool read_base(uint64_t offset, char* data, size_t size) override {
    return lseek(base_.get(), static_cast<off_t>(offset), SEEK_SET) >= 0 &&
           base_.read_fully(data, size) == static_cast<ssize_t>(size);
  }
  bool write(const char* data, size_t size) override { return result_.write_fully(data, size); }

 private:
  const Descriptor& recipe_;
  const Descriptor& base_;
  const Descriptor& result_;
};

// Reads a file from its begin to its end; `chunks` may be null.
bool describe(const Descriptor& file, BaseFacts* facts, std::vector<Chunk>* chunks) {
  std::string buffer(65536, '\0');
  Sha256 hash;
  Chunker chunker;
  facts->size = 0;
  ssize_t count;
  while ((count = file.read_fully(buffer.data(), buffer.size())) > 0) {
    const auto size = static_cast<size_t>(count);
    hash.update(buffer.data(), size);
    if (chunks != nullptr) chunker.add(buffer.data(), size, chunks);
    facts->size += size;
  }
  if (chunks != nullptr) chunker.finish(chunks);
  hash.finish(facts->sha256);
  return count == 0;
}

bool is_regular(const Descriptor& file) {
  struct stat facts;
  return file.good() && fstat(file.get(), &facts) == 0 && S_ISREG(facts.st_mode);
}

}  // namespace

bool patch_file(const std::string& base, const Descriptor& to, uint64_t size,
                const Descriptor& recipe, std::string* error) {
  const Descriptor from(open(base.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  BaseFacts facts;
  if (!is_regular(from) || !describe(from, &facts, nullptr)) return fail_with_errno(base, error);
  FileStreams streams(recipe, from, to);
  if (!follow_recipe(&streams, facts, size, error)) return false;
  return fsync(to.get()) == 0 || fail_with_errno("what the recipe makes", error);
}

bool cut_file(const std::string& path, BaseFacts* facts, std::vector<Chunk>* chunks,
              std::string* error) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  return (is_regular(file) && describe(file, facts, chunks)) || fail_with_errno(path, error);
}

}  // namespace edgekit::board
