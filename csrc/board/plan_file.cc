#include "board/plan_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "board/files.h"
#include "trust/age.h"

namespace edgekit::board {
namespace {

constexpr size_t kMostIdentity = 4096;

bool fail_with_errno(const std::string& path, std::string* error) {
  *error = path + ": " + std::strerror(errno);
  return false;
}

class FileStreams : public AgeStreams {
 public:
  FileStreams(const Descriptor& locked, const Descriptor& content)
      : locked_(locked), content_(content) {}

  size_t read(char* data, size_t size) override {
    size_t done = 0;
    // The header is read byte by byte.
    while (done < size) {
      if (at_ == filled_) {
        at_ = 0;
        filled_ =
            static_cast<size_t>(std::max<ssize_t>(locked_.read_fully(buffer_, sizeof buffer_), 0));
        if (filled_ == 0) break;
      }
      const size_t count = std::min(size - done, filled_ - at_);
      std::memcpy(data + done, buffer_ + at_, count);
      done += count;
      at_ += count;
    }
    return done;
  }
  bool write(const char* data, size_t size) override { return content_.write_fully(data, size); }

 private:
  const Descriptor& locked_;
  const Descriptor& content_;
  char buffer_[16384];
  size_t at_ = 0;
  size_t filled_ = 0;
};

bool read_identity(const std::string& path, AgeIdentity* identity, std::string* error) {
  std::string text;
  if (!read_file(path, kMostIdentity, &text, error)) return false;
  if (read_age_identity(text, identity)) return true;
  *error = path + ": no secret key of a device";
  return false;
}

// Writes what a locked file holds.
bool unlock_file(const std::string& path, const std::string& identity, const Descriptor& content,
                 std::string* error) {
  if (file_size(identity) < 0) {
    *error =
        path +
        ": locked for a device's key, and this device has none: `edgekit-board ROOT key` makes one";
    return false;
  }
  AgeIdentity key;
  if (!read_identity(identity, &key, error)) return false;
  const Descriptor locked(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!locked.good()) return fail_with_errno(path, error);
  FileStreams streams(locked, content);
  std::string reason;
  if (open_age(&streams, key, &reason)) return true;
  *error = path + ": " + reason;
  return false;
}

}  // namespace

bool PlanFile::open(const std::string& folder, const Manifest& manifest,
                    const std::string& identity, std::string* error) {
  if (manifest.find(kPlan) != nullptr) {
    path_ = join_path(folder, kPlan);
    return true;
  }
  const std::string locked_path = join_path(folder, kLockedPlan);
  memory_ = Descriptor(memfd_create(kPlan, MFD_ALLOW_SEALING));
  if (!memory_.good()) return fail_with_errno("memory for the plan", error);
  if (!unlock_file(locked_path, identity, memory_, error)) return false;
  if (fcntl(memory_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) !=
      0) {
    return fail_with_errno("memory for the plan", error);
  }
  path_ = "/proc/self/fd/" + std::to_string(memory_.get());
  return true;
}

bool unlock_plan(const std::string& folder, const Manifest& manifest, const std::string& identity,
                 const std::string& to, std::string* error) {
  if (manifest.find(kLockedPlan) == nullptr) {
    *error = join_path(folder, kPlan) + ": not locked";
    return false;
  }
  struct stat owner;
  if (stat(parent(to).c_str(), &owner) != 0) return fail_with_errno(parent(to), error);
  const std::string partial = to + ".new";
  if (!remove_all(partial, error)) return false;
  const Descriptor file(
      open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0400));
  if (!file.good() || (geteuid() == 0 && fchown(file.get(), owner.st_uid, owner.st_gid) != 0)) {
    return fail_with_errno(partial, error);
  }
  const bool good = unlock_file(join_path(folder, kLockedPlan), identity, file, error);
  if (good && rename(partial.c_str(), to.c_str()) == 0) return true;
  if (good) fail_with_errno(to, error);
  std::string ignored;
  remove_all(partial, &ignored);
  return false;
}

bool make_identity(const std::string& path, std::string* recipient, std::string* error) {
  AgeIdentity identity;
  if (file_size(path) < 0) {
    if (getrandom(identity.secret, sizeof identity.secret, 0) !=
        static_cast<ssize_t>(sizeof identity.secret)) {
      return fail_with_errno("random numbers", error);
    }
    const std::string partial = path + ".new";
    const std::string text = identity.text() + "\n";
    std::string ignored;
    remove_all(partial, &ignored);
    const Descriptor file(
        ::open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file.good() || !file.write_fully(text.data(), text.size()) || fsync(file.get()) != 0 ||
        rename(partial.c_str(), path.c_str()) != 0) {
      return fail_with_errno(path, error);
    }
    if (!sync_folder(parent(path), error)) return false;
  }
  if (!read_identity(path, &identity, error)) return false;
  *recipient = identity.recipient();
  return true;
}

}  // namespace edgekit::board
