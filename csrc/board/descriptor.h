#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <utility>

namespace edgekit::board {

/// A file descriptor that is closed when it goes.
class Descriptor {
 public:
  explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
  ~Descriptor() {
    if (good()) close(descriptor_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  Descriptor(Descriptor&& from) noexcept : descriptor_(std::exchange(from.descriptor_, -1)) {}
  Descriptor& operator=(Descriptor&& from) noexcept {
    std::swap(descriptor_, from.descriptor_);
    return *this;
  }

  bool good() const { return descriptor_ >= 0; }
  int get() const { return descriptor_; }

  /// Reads what is there, at most `size` bytes; returns how many, 0 at the end, or -1 with errno
  /// set.
  ssize_t read_some(char* data, size_t size) const {
    ssize_t count;
    while ((count = read(descriptor_, data, size)) < 0 && errno == EINTR) continue;
    return count;
  }

  /// Reads until `size` bytes are there or the file ends; returns how many, or -1 with errno set.
  ssize_t read_fully(char* data, size_t size) const {
    size_t done = 0;
    while (done < size) {
      const ssize_t count = read(descriptor_, data + done, size - done);
      if (count == 0) break;
      if (count > 0) {
        done += static_cast<size_t>(count);
      } else if (errno != EINTR) {
        return -1;
      }
    }
    return static_cast<ssize_t>(done);
  }

  /// Writes all bytes; returns false with errno set where that fails.
  bool write_fully(const char* data, size_t size) const {
    while (size > 0) {
      const ssize_t count = write(descriptor_, data, size);
      if (count >= 0) {
        data += count;
        size -= static_cast<size_t>(count);
      } else if (errno != EINTR) {
        return false;
      }
    }
    return true;
  }

 private:
  int descriptor_;
};

}  // namespace edgekit::board
