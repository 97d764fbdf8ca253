#include "board/device.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "board/files.h"
#include "board/golden.h"
#include "board/patch.h"

namespace edgekit::board {
namespace {

constexpr size_t kMostKey = 4096;
constexpr size_t kMostSignature = 65536;
constexpr size_t kMostState = 4096;
// The log is begun anew beyond this, and the former one kept.
constexpr int64_t kMostLog = 256 << 10;
constexpr uint64_t kSpareBytes = 1 << 20;
constexpr char kPartial[] = ".part";

bool fail(std::string* error, const std::string& what) {
  *error = what;
  return false;
}

bool fail_with_errno(std::string* error, const std::string& path) {
  return fail(error, path + ": " + std::strerror(errno));
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Puts a whole file that was checked where the bundle has it.
bool settle(const std::string& partial, const std::string& path, bool program, std::string* error) {
  if (chmod(partial.c_str(), program ? 0755 : 0644) != 0 ||
      rename(partial.c_str(), path.c_str()) != 0) {
    return fail_with_errno(error, path);
  }
  return sync_folder(parent(path), error);
}

// Returns whether `path` is a file of this size and digest.
bool is_whole(const std::string& path, const BundleFile& file) {
  std::string digest, ignored;
  return file_size(path) == static_cast<int64_t>(file.size) &&
         digest_file(path, &digest, &ignored) && digest == file.sha256;
}

// Removes what is in the folder of a bundle and not of it.
bool sweep(const std::string& folder, const Manifest& manifest, std::string* error) {
  std::vector<std::string> found;
  if (!list_files(folder, &found, error)) return false;
  for (const std::string& name : found) {
    const std::string whole =
        ends_with(name, kPartial) ? name.substr(0, name.size() + 1 - sizeof kPartial) : name;
    if (name == kManifest || name == kSignature || manifest.find(name) != nullptr ||
        manifest.find(whole) != nullptr) {
      continue;
    }
    if (!remove_all(join_path(folder, name), error)) return false;
  }
  return true;
}

}  // namespace

bool Device::create(const std::string& root, const std::string& board,
                    const std::vector<std::string>& keys, std::string* error) {
  if (!is_plain_path(board) || board.find('/') != std::string::npos) {
    return fail(error, "'" + board + "' is no name of a board");
  }
  if (keys.empty()) return fail(error, "without a public key nothing could be installed");
  if (file_size(root + "/state") >= 0) return fail(error, root + ": exists and is in use");
  if (!make_folders(root + "/keys", error) || !make_folders(root + "/slots", error)) return false;
  for (size_t i = 0; i < keys.size(); ++i) {
    PublicKey key;
    if (!read_public_key(keys[i], &key, error) ||
        !replace_file(root + "/keys/" + key.name() + ".pub", keys[i], error)) {
      return false;
    }
  }
  return replace_file(root + "/board", board + "\n", error) &&
         replace_file(root + "/lock", "", error) &&
         replace_file(root + "/state", format_state(State()), error);
}

bool Device::open(const std::string& root, std::string* error) {
  root_ = root;
  lock_ = Descriptor(::open((root + "/lock").c_str(), O_RDONLY | O_CLOEXEC));
  if (!lock_.good()) {
    return fail(error, root + ": no device's folder: edgekit-board " + root + " init makes one");
  }
  while (flock(lock_.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return fail_with_errno(error, root + "/lock");
  }
  if (!read_file(root + "/board", kMostKey, &board_, error)) return false;
  while (!board_.empty() && board_.back() == '\n') board_.pop_back();
  std::vector<std::string> names;
  if (!list_files(root + "/keys", &names, error)) return false;
  for (const std::string& name : names) {
    if (!ends_with(name, ".pub")) continue;
    std::string text;
    PublicKey key;
    if (!read_file(join_path(root + "/keys", name), kMostKey, &text, error)) return false;
    if (!read_public_key(text, &key, error))
      return fail(error, join_path(root + "/keys", name) + ": " + *error);
    keys_.push_back(key);
  }
  std::string text, ignored;
  if (read_file(root + "/state", kMostState, &text, &ignored) && parse_state(text, &state_)) {
    return true;
  }
  return recover(error);
}

bool Device::recover(std::string* error) {
  State next;
  std::string reasons;
  for (const Slot slot : {Slot::kA, Slot::kB}) {
    Manifest manifest;
    std::string reason;
    if (!check_files(slot, &manifest, &reason)) {
      reasons += std::string(", ") + slot_name(slot) + ": " + reason;
    } else if (next.active == Slot::kNone || manifest.release > next.floor) {
      next.active = slot;
      next.floor = manifest.release;
    }
  }
  state_ = State();
  return change(
      next, std::string("state was lost; made anew with slot ") + slot_name(next.active) + reasons,
      error);
}

bool Device::check_origin(std::string_view manifest, std::string_view signature, Manifest* read,
                          std::string* error) const {
  Signature parsed;
  if (!read_signature(signature, &parsed, error)) {
    return fail(error, std::string(kSignature) + ": " + *error);
  }
  std::string reason = "no key of this device is of that name";
  const bool known = std::any_of(keys_.begin(), keys_.end(), [&](const PublicKey& key) {
    return std::memcmp(key.id, parsed.id, sizeof key.id) == 0 &&
           check_signature(key, manifest, parsed, &reason);
  });
  if (!known)
    return fail(error, std::string(kSignature) + ": not signed for this device: " + reason);
  if (!read_manifest(manifest, read, error)) return false;
  if (read->target != board_) {
    return fail(error, "the bundle is for " + read->target + ", and this is " + board_);
  }
  return true;
}

bool Device::read_slot(Slot slot, std::string* text, Manifest* manifest, std::string* error) const {
  std::string signature;
  return read_file(slot_path(slot) + "/" + kManifest, kMostManifest, text, error) &&
         read_file(slot_path(slot) + "/" + kSignature, kMostSignature, &signature, error) &&
         check_origin(*text, signature, manifest, error);
}

bool Device::read_occupant(Slot slot, Occupant* occupant) const {
  std::string text, ignored;
  Manifest manifest;
  if (!read_slot(slot, &text, &manifest, &ignored)) return false;
  occupant->release = manifest.release;
  return digest_file(slot_path(slot) + "/" + kManifest, &occupant->manifest, &ignored);
}

bool Device::check_files(Slot slot, Manifest* manifest, std::string* error) const {
  const std::string folder = slot_path(slot);
  std::string text;
  std::vector<std::string> found;
  if (!read_slot(slot, &text, manifest, error) || !list_files(folder, &found, error)) return false;
  for (const std::string& name : found) {
    if (name != kManifest && name != kSignature && manifest->find(name) == nullptr) {
      return fail(error, join_path(folder, name) + ": not listed in " + kManifest);
    }
  }
  for (const BundleFile& file : manifest->files) {
    if (!is_whole(join_path(folder, file.path), file)) {
      return fail(error, join_path(folder, file.path) + ": missing or changed");
    }
  }
  return true;
}

bool Device::want_file(const BundleFile& file, const std::string& folder, const Manifest& active,
                       std::vector<Wanted>* wanted, std::string* error) const {
  const std::string path = join_path(folder, file.path);
  const std::string partial = path + kPartial;
  if (is_whole(path, file)) return true;
  if (!remove_all(path, error) || !make_folders(parent(path), error)) return false;
  for (const BundleFile& old : active.files) {
    const std::string from = join_path(slot_path(state_.active), old.path);
    if (old.sha256 != file.sha256 || old.size != file.size || !is_whole(from, old)) continue;
    if (!copy_file(from, partial, error)) return false;
    if (is_whole(partial, file)) return settle(partial, path, is_program(file.path), error);
  }
  int64_t there = std::max<int64_t>(file_size(partial), 0);
  if (static_cast<uint64_t>(there) >= std::max<uint64_t>(file.size, 1)) {
    if (!remove_all(partial, error)) return false;
    there = 0;
  }
  wanted->push_back({file.path, static_cast<uint64_t>(there), file.size});
  return true;
}

// What lies in the slot makes room for what comes or is a part of it.
bool Device::check_room(const std::string& folder, const Manifest& coming,
                        std::string* error) const {
  struct statvfs room;
  if (statvfs(root_.c_str(), &room) != 0) return fail_with_errno(error, root_);
  uint64_t bytes = uint64_t{room.f_bavail} * room.f_frsize;
  std::vector<std::string> found;
  std::string ignored;
  list_files(folder, &found, &ignored);
  for (const std::string& name : found) {
    bytes += static_cast<uint64_t>(std::max<int64_t>(file_size(join_path(folder, name)), 0));
  }
  const uint64_t needed = coming.total() + kSpareBytes;
  return needed <= bytes ||
         fail(error, "the bundle needs " + std::to_string(needed) + " bytes, and " + root_ +
                         " has room for " + std::to_string(bytes));
}

bool Device::begin(std::string_view manifest, std::string_view signature,
                   std::vector<Wanted>* wanted, std::string* error) {
  Manifest coming, active;
  std::string text, ignored;
  if (state_.trial != Slot::kNone) {
    return fail(error, "a bundle is on trial: confirm it or go back first");
  }
  if (!check_origin(manifest, signature, &coming, error)) return false;
  if (coming.release < state_.floor) {
    return fail(error, "the bundle is release " + std::to_string(coming.release) +
                           ", and this device takes none before " + std::to_string(state_.floor));
  }
  const Slot slot = other(state_.active);
  const std::string folder = slot_path(slot);
  if (!check_room(folder, coming, error)) return false;
  Manifest staged;
  if (!read_slot(slot, &text, &staged, &ignored) || text != manifest) {
    // The manifest goes first: without it a slot holds nothing.
    if (!remove_all(folder + "/" + kManifest, error) || !remove_all(folder, error) ||
        !make_folders(folder, error) ||
        !replace_file(folder + "/" + kSignature, signature, error) ||
        !replace_file(folder + "/" + kManifest, manifest, error)) {
      return false;
    }
    note(std::string("begins to take release ") + std::to_string(coming.release) + " into slot " +
         slot_name(slot));
  }
  if (!sweep(folder, coming, error)) return false;
  if (state_.active != Slot::kNone && !read_slot(state_.active, &text, &active, &ignored)) {
    active = Manifest();
  }
  wanted->clear();
  return std::all_of(coming.files.begin(), coming.files.end(), [&](const BundleFile& file) {
    return want_file(file, folder, active, wanted, error);
  });
}

bool Device::find_begun(const std::string& path, BundleFile* file, std::string* error) const {
  std::string text;
  Manifest manifest;
  if (state_.trial != Slot::kNone) {
    return fail(error, "a bundle is on trial: confirm it or go back first");
  }
  if (!read_slot(other(state_.active), &text, &manifest, error)) return false;
  const BundleFile* const found = manifest.find(path);
  if (found == nullptr) return fail(error, path + ": no file of the bundle that was begun");
  *file = *found;
  return true;
}

bool Device::put(const std::string& path, uint64_t offset, const Descriptor& source,
                 std::string* error) {
  BundleFile file;
  if (!find_begun(path, &file, error)) return false;
  const std::string partial = join_path(slot_path(other(state_.active)), path) + kPartial;
  const uint64_t there = static_cast<uint64_t>(std::max<int64_t>(file_size(partial), 0));
  if (offset != there) {
    return fail(error, path + ": " + std::to_string(there) + " bytes are here, not " +
                           std::to_string(offset));
  }
  const Descriptor target(
      ::open(partial.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!target.good()) return fail_with_errno(error, partial);
  std::string buffer(65536, '\0');
  uint64_t size = offset;
  while (true) {
    // One byte more than belongs tells a source that holds too much.
    const uint64_t most = std::min<uint64_t>(buffer.size(), file.size - size + 1);
    const ssize_t count = source.read_fully(buffer.data(), static_cast<size_t>(most));
    if (count < 0) return fail_with_errno(error, path);
    if (count == 0) break;
    size += static_cast<uint64_t>(count);
    if (size > file.size) {
      std::string ignored;
      remove_all(partial, &ignored);
      return fail(error, path + ": more than the " + std::to_string(file.size) +
                             " bytes that the manifest says");
    }
    if (!target.write_fully(buffer.data(), static_cast<size_t>(count))) {
      return fail_with_errno(error, partial);
    }
  }
  if (fsync(target.get()) != 0) return fail_with_errno(error, partial);
  if (size < file.size) {
    return fail(error, path + ": ended after " + std::to_string(size) + " of " +
                           std::to_string(file.size) + " bytes; what came is kept");
  }
  return finish_file(file, error);
}

bool Device::patch(const std::string& path, const Descriptor& recipe, std::string* error) {
  BundleFile file;
  if (!find_begun(path, &file, error)) return false;
  if (state_.active == Slot::kNone) return fail(error, path + ": there is nothing to patch");
  const std::string partial = join_path(slot_path(other(state_.active)), path) + kPartial;
  if (!patch_file(join_path(slot_path(state_.active), path), partial, file.size, recipe, error)) {
    *error = path + ": " + *error;
    std::string ignored;
    remove_all(partial, &ignored);
    return false;
  }
  return finish_file(file, error);
}

bool Device::list_chunks(const std::string& path, BaseFacts* facts, std::vector<Chunk>* chunks,
                         std::string* error) const {
  std::string text;
  Manifest manifest;
  if (state_.active == Slot::kNone) return fail(error, "nothing is installed");
  if (!read_slot(state_.active, &text, &manifest, error)) return false;
  if (manifest.find(path) == nullptr) return fail(error, path + ": no file of what is installed");
  return cut_file(join_path(slot_path(state_.active), path), facts, chunks, error);
}

// Puts a file that came whole where the bundle has it, if it is the right one.
bool Device::finish_file(const BundleFile& file, std::string* error) const {
  const std::string path = join_path(slot_path(other(state_.active)), file.path);
  const std::string partial = path + kPartial;
  if (!is_whole(partial, file)) {
    std::string ignored;
    remove_all(partial, &ignored);
    return fail(error, file.path + ": not the bytes that the manifest says; send it again");
  }
  return settle(partial, path, is_program(file.path), error);
}

bool Device::check(Slot slot, Health* health, std::string* error) {
  Manifest manifest;
  if (!check_files(slot, &manifest, error)) return false;
  if (slot != state_.active && manifest.release < state_.floor) {
    return fail(error, "the bundle is release " + std::to_string(manifest.release) +
                           ", and this device takes none before " + std::to_string(state_.floor));
  }
  return check_golden(slot_path(slot), manifest, root_ + "/check", health, error);
}

bool Device::switch_over(Health* health, std::string* error) {
  if (state_.trial != Slot::kNone) {
    return fail(error, "a bundle is on trial: confirm it or go back first");
  }
  const Slot slot = other(state_.active);
  if (!check(slot, health, error)) {
    note(std::string("refuses slot ") + slot_name(slot) + ": " + *error);
    return false;
  }
  State next = state_;
  next.trial = slot;
  next.starts = kTrialStarts;
  return change(next,
                std::string("slot ") + slot_name(slot) +
                    " is on trial: " + std::to_string(health->layers) + " layers equal, " +
                    std::to_string(health->latency_us) + " us",
                error);
}

bool Device::start(Slot* slot, std::string* error) {
  if (state_.trial != Slot::kNone) {
    State next = state_;
    std::string what = std::string("starts slot ") + slot_name(state_.trial) + " on trial";
    if (state_.starts == 0) {
      next.trial = Slot::kNone;
      what = std::string("takes slot ") + slot_name(state_.trial) +
             " back: it was started and never confirmed";
    } else {
      --next.starts;
    }
    if (!change(next, what, error)) {
      // A start that can't be counted, on a full disk say, is one of what was confirmed.
      *slot = state_.active;
      return state_.active != Slot::kNone;
    }
  }
  *slot = state_.running();
  return true;
}

bool Device::confirm(std::string* error) {
  if (state_.trial == Slot::kNone) {
    return state_.active != Slot::kNone || fail(error, "nothing is installed");
  }
  std::string text;
  Manifest manifest;
  if (!read_slot(state_.trial, &text, &manifest, error)) return false;
  State next = state_;
  next.active = state_.trial;
  next.trial = Slot::kNone;
  next.starts = 0;
  next.floor = std::max(state_.floor, manifest.release);
  return change(next,
                std::string("slot ") + slot_name(next.active) + " is confirmed: release " +
                    std::to_string(manifest.release),
                error);
}

bool Device::go_back(const std::string& why, std::string* error) {
  State next = state_;
  next.trial = Slot::kNone;
  next.starts = 0;
  if (state_.trial == Slot::kNone) {
    if (state_.active == Slot::kNone) return fail(error, "nothing is installed");
    next.active = other(state_.active);
    Manifest manifest;
    if (!check_files(next.active, &manifest, error)) {
      return fail(error, "there is nothing to go back to: " + *error);
    }
  }
  return change(next, std::string("goes back to slot ") + slot_name(next.active) + ": " + why,
                error);
}

bool Device::change(const State& next, const std::string& what, std::string* error) {
  State numbered = next;
  numbered.sequence = state_.sequence + 1;
  if (!replace_file(root_ + "/state", format_state(numbered), error)) return false;
  state_ = numbered;
  note(what);
  // For people: it may lag behind after a power cut until the next change.
  const std::string link = root_ + "/current";
  const std::string new_link = link + ".new";
  unlink(new_link.c_str());
  if (state_.running() == Slot::kNone) {
    unlink(link.c_str());
  } else if (symlink((std::string("slots/") + slot_name(state_.running())).c_str(),
                     new_link.c_str()) == 0) {
    rename(new_link.c_str(), link.c_str());
  }
  return true;
}

// Adds a line to the log. What happened stands even where that can't be written down.
void Device::note(const std::string& what) const {
  const std::string path = root_ + "/log";
  if (file_size(path) > kMostLog) rename(path.c_str(), (path + ".1").c_str());
  const Descriptor file(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644));
  const time_t now = time(nullptr);
  tm utc = {};
  char stamp[32] = "";
  if (gmtime_r(&now, &utc) != nullptr) strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", &utc);
  std::string line = std::string(stamp) + " " + std::to_string(state_.sequence) + " " + what;
  std::replace_if(
      line.begin(), line.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  line += '\n';
  if (file.good() && file.write_fully(line.data(), line.size())) fsync(file.get());
}

}  // namespace edgekit::board
