#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "board/device.h"
#include "board/files.h"
#include "board/golden.h"
#include "board/patch.h"
#include "trust/sha256.h"

// How a bundle comes into the slot that is not active, and onto trial.

namespace edgekit::board {

/// A file of a bundle that is being received.
struct Device::Incoming {
  BundleFile file;
  std::string partial;
  Descriptor target{-1};
};

namespace {

constexpr uint64_t kSpareBytes = 1 << 20;
constexpr char kPartial[] = ".part";
constexpr size_t kBuffer = 65536;
// Whoever is silent for this long has gone, even where the connection does not know it yet.
constexpr int kMostSilenceMs = 300'000;

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

bool is_whole(const std::string& path, const BundleFile& file) {
  return board::is_whole(path, file.size, file.sha256);
}

// Puts a whole file that was checked where the bundle has it.
bool settle(const std::string& partial, const std::string& path, bool program, std::string* error) {
  if (chmod(partial.c_str(), program ? 0755 : 0644) != 0 ||
      rename(partial.c_str(), path.c_str()) != 0) {
    return fail_with_errno(error, path);
  }
  return sync_folder(parent(path), error);
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

// Opens what is there of a file so that nobody else writes it. One that another receiver still has
// open, which may be the end of a broken connection, is taken away from it: that one's file is then
// no longer the one that bears the name.
bool take_partial(const std::string& partial, Descriptor* target, std::string* error) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW;
  *target = Descriptor(::open(partial.c_str(), kFlags, 0644));
  if (!target->good()) return fail_with_errno(error, partial);
  if (flock(target->get(), LOCK_EX | LOCK_NB) == 0) return true;
  const std::string taken = partial + kPartial;
  if (!copy_file(partial, taken, error)) return false;
  if (rename(taken.c_str(), partial.c_str()) != 0) return fail_with_errno(error, partial);
  *target = Descriptor(::open(partial.c_str(), kFlags, 0644));
  if (!target->good() || flock(target->get(), LOCK_EX | LOCK_NB) != 0) {
    return fail_with_errno(error, partial);
  }
  return true;
}

// Waits until there is something to read, or the end.
bool wait_for_bytes(int descriptor) {
  pollfd source = {descriptor, POLLIN, 0};
  int ready;
  while ((ready = poll(&source, 1, kMostSilenceMs)) < 0 && errno == EINTR) continue;
  return ready > 0;
}

// Appends what comes from `source` to `target` until the file is whole; `size` is what is there.
// `lost` says that another receiver took the file. After the `last` one nothing may come any more.
bool receive(const Descriptor& source, const BundleFile& file, const std::string& partial,
             const Descriptor& target, bool last, uint64_t* size, bool* lost, const Tell& tell,
             std::string* error) {
  std::string buffer(kBuffer, '\0');
  *lost = false;
  while (*size < file.size || last) {
    if (!wait_for_bytes(source.get())) {
      return fail(error, file.path + ": nothing came for " + std::to_string(kMostSilenceMs / 1000) +
                             " s; what came is kept");
    }
    // One byte more than belongs tells a source that holds too much.
    const uint64_t most = std::min<uint64_t>(buffer.size(), file.size - *size + (last ? 1 : 0));
    const ssize_t count = source.read_some(buffer.data(), static_cast<size_t>(most));
    if (count < 0) return fail_with_errno(error, file.path);
    if (!names_file(partial, target.get())) {
      *lost = true;
      return fail(error, file.path + ": another installer has begun; this one ends");
    }
    if (count == 0) break;
    if (*size + static_cast<uint64_t>(count) > file.size) {
      std::string ignored;
      remove_all(partial, &ignored);
      return fail(error, file.path + ": more than the " + std::to_string(file.size) +
                             " bytes that the manifest says");
    }
    if (!target.write_fully(buffer.data(), static_cast<size_t>(count))) {
      return fail_with_errno(error, partial);
    }
    *size += static_cast<uint64_t>(count);
    tell(static_cast<uint64_t>(count));
  }
  return fsync(target.get()) == 0 || fail_with_errno(error, partial);
}

}  // namespace

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

bool Device::begin(std::string_view manifest, std::string_view signature, Slot* present,
                   std::vector<Wanted>* wanted, std::string* error) {
  Manifest coming, active, staged;
  std::string text, ignored;
  wanted->clear();
  *present = Slot::kNone;
  if (!check_origin(manifest, signature, &coming, error)) return false;
  const Slot running = state_.running();
  if (running != Slot::kNone && read_slot(running, &text, &active, &ignored) && text == manifest &&
      check_files(running, &active, &ignored)) {
    *present = running;
    return true;
  }
  if (state_.trial != Slot::kNone) {
    return fail(error, "a bundle is on trial: confirm it or go back first");
  }
  if (coming.release < state_.floor) {
    return fail(error, "the bundle is release " + std::to_string(coming.release) +
                           ", and this device takes none before " + std::to_string(state_.floor));
  }
  const Slot slot = other(state_.active);
  const std::string folder = slot_path(slot);
  if (!check_room(folder, coming, error)) return false;
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
  active = Manifest();
  if (state_.active != Slot::kNone && !read_slot(state_.active, &text, &active, &ignored)) {
    active = Manifest();
  }
  return std::all_of(coming.files.begin(), coming.files.end(), [&](const BundleFile& file) {
    return want_file(file, folder, active, wanted, error);
  });
}

bool Device::is_expected(std::string_view manifest, std::string* error) const {
  Sha256 hash;
  hash.update(manifest.data(), manifest.size());
  char digest[65];
  hash.finish_hex(digest);
  return expected_.empty() || expected_ == digest ||
         fail(error, "another installer has begun; this one ends");
}

bool Device::find_begun(const std::string& path, BundleFile* file, std::string* error) const {
  std::string text;
  Manifest manifest;
  if (state_.trial != Slot::kNone) {
    return fail(error, "a bundle is on trial: confirm it or go back first");
  }
  if (!read_slot(other(state_.active), &text, &manifest, error)) return false;
  if (!is_expected(text, error)) return false;
  const BundleFile* const found = manifest.find(path);
  if (found == nullptr) return fail(error, path + ": no file of the bundle that was begun");
  *file = *found;
  return true;
}

bool Device::open_partial(const std::string& path, uint64_t offset, Incoming* incoming,
                          std::string* error) const {
  if (!find_begun(path, &incoming->file, error)) return false;
  const std::string whole = join_path(slot_path(other(state_.active)), path);
  incoming->partial = whole + kPartial;
  if (file_size(whole) >= 0) return fail(error, path + ": is here already");
  const auto size = [&] {
    return static_cast<uint64_t>(std::max<int64_t>(file_size(incoming->partial), 0));
  };
  // Who is refused takes the file away from nobody.
  if (const uint64_t there = size(); offset > there) {
    return fail(error, path + ": " + std::to_string(there) + " bytes are here, not " +
                           std::to_string(offset));
  }
  if (!take_partial(incoming->partial, &incoming->target, error)) return false;
  // What another receiver brought since this one asked comes again.
  return size() == offset || ftruncate(incoming->target.get(), static_cast<off_t>(offset)) == 0 ||
         fail_with_errno(error, incoming->partial);
}

bool Device::put(const std::vector<Part>& parts, const Descriptor& source, const Tell& tell,
                 std::string* error) {
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!put_one(parts[i], i + 1 == parts.size(), source, tell, error)) return false;
  }
  return true;
}

bool Device::put_one(const Part& part, bool last, const Descriptor& source, const Tell& tell,
                     std::string* error) {
  const std::string& path = part.path;
  Incoming incoming;
  if (!lock_slots(error) || !open_partial(path, part.offset, &incoming, error)) return false;
  flock(installing_.get(), LOCK_UN);
  uint64_t size = part.offset;
  bool lost;
  if (!receive(source, incoming.file, incoming.partial, incoming.target, last, &size, &lost, tell,
               error)) {
    if (!lost) fsync(incoming.target.get());
    return false;
  }
  if (size < incoming.file.size) {
    return fail(error, path + ": ended after " + std::to_string(size) + " of " +
                           std::to_string(incoming.file.size) + " bytes; what came is kept");
  }
  if (!lock_slots(error)) return false;
  if (!names_file(incoming.partial, incoming.target.get())) {
    return fail(error, path + ": another installer has begun; this one ends");
  }
  return finish_file(incoming.file, error);
}

bool Device::patch(const std::string& path, const Descriptor& recipe, std::string* error) {
  BundleFile file;
  if (!find_begun(path, &file, error)) return false;
  if (state_.active == Slot::kNone) return fail(error, path + ": there is nothing to patch");
  const std::string partial = join_path(slot_path(other(state_.active)), path) + kPartial;
  // Whoever received this file before has lost it.
  if (!remove_all(partial, error)) return false;
  const Descriptor target(
      ::open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
  // Locked, so that put() takes it away instead of adding to it.
  if (!target.good() || flock(target.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail_with_errno(error, partial);
  }
  flock(installing_.get(), LOCK_UN);
  const bool made =
      patch_file(join_path(slot_path(state_.active), path), target, file.size, recipe, error);
  if (!made) *error = path + ": " + *error;
  std::string ignored;
  if (!lock_slots(made ? error : &ignored)) return false;
  if (!names_file(partial, target.get())) {
    return made ? fail(error, path + ": another installer has begun; this one ends") : false;
  }
  if (made) return finish_file(file, error);
  remove_all(partial, &ignored);
  return false;
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
  return run_golden(slot, manifest, health, error);
}

bool Device::run_golden(Slot slot, const Manifest& manifest, Health* health,
                        std::string* error) const {
  PlanFile plan;
  return plan.open(slot_path(slot), manifest, root_ + kIdentity, error) &&
         check_golden(slot_path(slot), manifest, plan.path(), root_ + "/check", health, error);
}

bool Device::switch_over(Health* health, std::string* error) {
  if (state_.trial != Slot::kNone) {
    return fail(error, "a bundle is on trial: confirm it or go back first");
  }
  const Slot slot = other(state_.active);
  const uint64_t sequence = state_.sequence;
  std::string text;
  Manifest manifest;
  if (!expected_.empty() &&
      (!read_slot(slot, &text, &manifest, error) || !is_expected(text, error))) {
    return false;
  }
  if (!check(slot, health, error)) {
    note(std::string("refuses slot ") + slot_name(slot) + ": " + *error);
    return false;
  }
  if (!lock_state(error)) return false;
  if (state_.sequence != sequence) return fail(error, "the state changed during the check");
  State next = state_;
  next.trial = slot;
  next.starts = kTrialStarts;
  return change(next,
                std::string("slot ") + slot_name(slot) +
                    " is on trial: " + std::to_string(health->layers) + " layers equal, " +
                    std::to_string(health->latency_us) + " us",
                error);
}

}  // namespace edgekit::board
