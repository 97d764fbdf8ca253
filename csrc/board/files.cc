#include "board/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "board/descriptor.h"
#include "trust/sha256.h"

namespace edgekit::board {
namespace {

constexpr size_t kBuffer = 65536;

bool fail(const std::string& path, std::string* error) {
  *error = path + ": " + std::strerror(errno);
  return false;
}

// Adds the files under `folder`/`prefix` to `files`.
bool list_below(const std::string& folder, const std::string& prefix,
                std::vector<std::string>* files, std::string* error) {
  const std::string path = prefix.empty() ? folder : join_path(folder, prefix);
  DIR* const entries = opendir(path.c_str());
  if (entries == nullptr) return fail(path, error);
  bool good = true;
  while (const dirent* entry = good ? readdir(entries) : nullptr) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    const std::string below = prefix.empty() ? name : join_path(prefix, name);
    const std::string whole = join_path(folder, below);
    struct stat facts;
    if (lstat(whole.c_str(), &facts) != 0) {
      good = fail(whole, error);
    } else if (S_ISDIR(facts.st_mode)) {
      good = list_below(folder, below, files, error);
    } else if (S_ISREG(facts.st_mode)) {
      files->push_back(below);
    } else {
      *error = whole + ": neither a file nor a folder";
      good = false;
    }
  }
  closedir(entries);
  return good;
}

}  // namespace

std::string join_path(const std::string& folder, std::string_view name) {
  std::string path = folder;
  path += '/';
  path += name;
  return path;
}

std::string parent(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

bool read_file(const std::string& path, size_t most, std::string* content, std::string* error) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat facts;
  if (!file.good() || fstat(file.get(), &facts) != 0) return fail(path, error);
  if (!S_ISREG(facts.st_mode) || static_cast<uint64_t>(facts.st_size) > most) {
    *error = path + ": no regular file of at most " + std::to_string(most) + " bytes";
    return false;
  }
  content->resize(static_cast<size_t>(facts.st_size));
  const ssize_t count = file.read_fully(content->data(), content->size());
  if (count < 0) return fail(path, error);
  content->resize(static_cast<size_t>(count));
  return true;
}

bool replace_file(const std::string& path, std::string_view content, std::string* error) {
  const std::string partial = path + ".new";
  const Descriptor file(
      open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!file.good() || !file.write_fully(content.data(), content.size()) || fsync(file.get()) != 0) {
    return fail(partial, error);
  }
  if (rename(partial.c_str(), path.c_str()) != 0) return fail(path, error);
  return sync_folder(parent(path), error);
}

bool sync_folder(const std::string& path, std::string* error) {
  const Descriptor folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.good() || fsync(folder.get()) != 0) return fail(path, error);
  return true;
}

bool make_folders(const std::string& path, std::string* error) {
  struct stat facts;
  if (lstat(path.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode)) return true;
  const std::string above = parent(path);
  if (above != path && !make_folders(above, error)) return false;
  if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return fail(path, error);
  return sync_folder(above, error);
}

bool remove_all(const std::string& path, std::string* error) {
  struct stat facts;
  if (lstat(path.c_str(), &facts) != 0) return errno == ENOENT || fail(path, error);
  if (!S_ISDIR(facts.st_mode)) return unlink(path.c_str()) == 0 || fail(path, error);
  DIR* const entries = opendir(path.c_str());
  if (entries == nullptr) return fail(path, error);
  bool good = true;
  while (const dirent* entry = good ? readdir(entries) : nullptr) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") good = remove_all(join_path(path, name), error);
  }
  closedir(entries);
  return good && (rmdir(path.c_str()) == 0 || fail(path, error));
}

bool list_files(const std::string& folder, std::vector<std::string>* files, std::string* error) {
  files->clear();
  if (!list_below(folder, "", files, error)) return false;
  std::sort(files->begin(), files->end());
  return true;
}

int64_t file_size(const std::string& path) {
  struct stat facts;
  if (lstat(path.c_str(), &facts) != 0 || !S_ISREG(facts.st_mode)) return -1;
  return facts.st_size;
}

bool digest_file(const std::string& path, std::string* hex, std::string* error) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file.good()) return fail(path, error);
  std::string buffer(kBuffer, '\0');
  Sha256 hash;
  ssize_t count;
  while ((count = file.read_fully(buffer.data(), buffer.size())) > 0) {
    hash.update(buffer.data(), static_cast<size_t>(count));
  }
  if (count < 0) return fail(path, error);
  char digits[65];
  hash.finish_hex(digits);
  *hex = digits;
  return true;
}

bool is_whole(const std::string& path, uint64_t size, const std::string& sha256) {
  std::string digest, ignored;
  return file_size(path) == static_cast<int64_t>(size) && digest_file(path, &digest, &ignored) &&
         digest == sha256;
}

bool names_file(const std::string& path, int descriptor) {
  struct stat named, open_file;
  return lstat(path.c_str(), &named) == 0 && fstat(descriptor, &open_file) == 0 &&
         named.st_dev == open_file.st_dev && named.st_ino == open_file.st_ino;
}

bool copy_file(const std::string& from, const std::string& to, std::string* error) {
  const Descriptor source(open(from.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!source.good()) return fail(from, error);
  const Descriptor target(
      open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!target.good()) return fail(to, error);
  std::string buffer(kBuffer, '\0');
  ssize_t count;
  while ((count = source.read_fully(buffer.data(), buffer.size())) > 0) {
    if (!target.write_fully(buffer.data(), static_cast<size_t>(count))) return fail(to, error);
  }
  if (count < 0) return fail(from, error);
  return fsync(target.get()) == 0 || fail(to, error);
}

}  // namespace edgekit::board
