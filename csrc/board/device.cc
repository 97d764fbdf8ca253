#include "board/device.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "board/files.h"
#include "board/run_program.h"

namespace edgekit::board {
namespace {

constexpr size_t kMostKey = 4096;
constexpr size_t kMostSignature = 65536;
constexpr size_t kMostState = 4096;
constexpr unsigned kMostVersionSeconds = 10;
// The log is begun anew beyond this, and the former one kept.
constexpr int64_t kMostLog = 256 << 10;

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

// A version's three numbers.
using Version = std::array<uint64_t, 3>;

// Reads "1.2.3" and what is not of it behind it.
Version read_version(std::string_view text) {
  Version version = {};
  for (uint64_t& part : version) {
    while (!text.empty() && text.front() >= '0' && text.front() <= '9') {
      part = part * 10 + static_cast<uint64_t>(text.front() - '0');
      text.remove_prefix(1);
    }
    if (text.empty() || text.front() != '.') break;
    text.remove_prefix(1);
  }
  return version;
}

// Returns whether what a program says of itself names this version or a later one.
bool is_newer_or_same(std::string_view said) {
  constexpr std::string_view kTitle = "edgekit-board ";
  return said.substr(0, kTitle.size()) == kTitle &&
         read_version(said.substr(kTitle.size())) >= read_version(EDGEKIT_VERSION);
}

// Reads keys' files, all of which must be good.
bool read_keys(const std::vector<std::string>& texts, std::vector<PublicKey>* keys,
               std::string* error) {
  if (texts.empty()) return fail(error, "without a public key nothing could be installed");
  return std::all_of(texts.begin(), texts.end(), [&](const std::string& text) {
    return read_public_key(text, &keys->emplace_back(), error);
  });
}

// Opens a file to be locked.
bool open_lock(const std::string& path, bool make, Descriptor* lock) {
  const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | (make ? O_CREAT : 0);
  *lock = Descriptor(::open(path.c_str(), flags, 0644));
  return lock->good();
}

bool wait_for_lock(const Descriptor& lock, const std::string& path, std::string* error) {
  while (flock(lock.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return fail_with_errno(error, path);
  }
  return true;
}

}  // namespace

bool Device::create(const std::string& root, const std::string& board,
                    const std::vector<std::string>& keys, std::string* error) {
  if (!is_plain_path(board) || board.find('/') != std::string::npos) {
    return fail(error, "'" + board + "' is no name of a board");
  }
  std::vector<PublicKey> read;
  if (!read_keys(keys, &read, error)) return false;
  if (file_size(root + "/state") >= 0) return fail(error, root + ": exists and is in use");
  if (!make_folders(root + "/keys", error) || !make_folders(root + "/slots", error)) return false;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (!replace_file(root + "/keys/" + read[i].name() + ".pub", keys[i], error)) return false;
  }
  return replace_file(root + "/board", board + "\n", error) &&
         replace_file(root + "/lock", "", error) && replace_file(root + "/installing", "", error) &&
         replace_file(root + "/state", format_state(State()), error);
}

bool Device::create_for(const std::string& root, std::string_view manifest,
                        std::string_view signature, const std::vector<std::string>& keys,
                        std::string* error) {
  Device device;
  Manifest read;
  if (!read_keys(keys, &device.keys_, error) ||
      !device.check_signed(manifest, signature, &read, error)) {
    return false;
  }
  return create(root, read.target, keys, error);
}

bool Device::lock_slots(std::string* error) {
  return wait_for_lock(installing_, root_ + "/installing", error);
}

bool Device::lock_state(std::string* error) {
  if (!wait_for_lock(lock_, root_ + "/lock", error)) return false;
  std::string text, ignored;
  if (read_file(root_ + "/state", kMostState, &text, &ignored) && parse_state(text, &state_)) {
    return true;
  }
  return recover(error);
}

bool Device::open(const std::string& root, Use use, std::string* error) {
  root_ = root;
  if (!open_lock(root + "/lock", false, &lock_)) {
    return fail(error, root + ": no device's folder: edgekit-board " + root + " init makes one");
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
  if (use == Use::kState) return lock_state(error);
  if (!open_lock(root + "/installing", true, &installing_)) {
    return fail_with_errno(error, root + "/installing");
  }
  if (!lock_slots(error) || !lock_state(error)) return false;
  // Without a trial, only who holds the slots changes the state.
  flock(lock_.get(), LOCK_UN);
  return true;
}

bool Device::recover(std::string* error) {
  State next;
  std::string reasons;
  for (const Slot slot : {Slot::kA, Slot::kB}) {
    Manifest manifest;
    Health health;
    std::string reason;
    // What lies there whole may be a bundle that was refused, or that nobody has checked.
    if (!check_files(slot, &manifest, &reason) || !run_golden(slot, manifest, &health, &reason)) {
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

bool Device::check_signed(std::string_view manifest, std::string_view signature, Manifest* read,
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
  return read_manifest(manifest, read, error);
}

bool Device::check_origin(std::string_view manifest, std::string_view signature, Manifest* read,
                          std::string* error) const {
  if (!check_signed(manifest, signature, read, error)) return false;
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
    if (!is_whole(join_path(folder, file.path), file.size, file.sha256)) {
      return fail(error, join_path(folder, file.path) + ": missing or changed");
    }
  }
  return true;
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

bool Device::unlock(Slot slot, const std::string& to, std::string* error) const {
  std::string text;
  Manifest manifest;
  return read_slot(slot, &text, &manifest, error) &&
         unlock_plan(slot_path(slot), manifest, root_ + kIdentity, to, error);
}

bool Device::make_key(std::string* recipient, std::string* error) const {
  return make_identity(root_ + kIdentity, recipient, error);
}

bool Device::confirm(std::string* error) {
  const bool trial = state_.trial != Slot::kNone;
  const Slot slot = state_.running();
  if (slot == Slot::kNone) return fail(error, "nothing is installed");
  std::string text;
  Manifest manifest;
  if (!read_slot(slot, &text, &manifest, error)) return !trial;
  State next = state_;
  next.active = slot;
  next.trial = Slot::kNone;
  next.starts = 0;
  next.floor = std::max(state_.floor, manifest.release);
  if (trial && !change(next,
                       std::string("slot ") + slot_name(slot) + " is confirmed: release " +
                           std::to_string(manifest.release),
                       error)) {
    return false;
  }
  std::string reason;
  if (!renew_program(manifest, &reason)) note(std::string(kBoardProgram) + " stays: " + reason);
  return true;
}

// The one that runs was proved to take bundles and go back; one of a bundle comes from who may
// sign, and must say that it is not older.
bool Device::renew_program(const Manifest& manifest, std::string* error) const {
  const std::string program = join_path(root_ + "/bin", kBoardProgram);
  const BundleFile* const file = manifest.find(kBoardProgram);
  if (file == nullptr || file_size(program) < 0 || is_whole(program, file->size, file->sha256)) {
    return true;
  }
  const std::string source = join_path(slot_path(state_.active), kBoardProgram);
  const std::string answer = root_ + "/version", copy = program + ".new";
  std::string text, ignored;
  if (!is_whole(source, file->size, file->sha256)) return fail(error, source + ": changed");
  const bool runs = run_program({source, "--version"}, answer, kMostVersionSeconds, error) &&
                    read_file(answer, kMostState, &text, error);
  remove_all(answer, &ignored);
  if (!runs) return false;
  if (!is_newer_or_same(text)) return fail(error, "the bundle's is older");
  if (!copy_file(source, copy, error)) return false;
  if (chmod(copy.c_str(), 0755) != 0 || rename(copy.c_str(), program.c_str()) != 0) {
    return fail_with_errno(error, program);
  }
  note(std::string(kBoardProgram) + " is renewed: " + text);
  return sync_folder(parent(program), error);
}

bool Device::go_back(const std::string& why, std::string* error) {
  const uint64_t sequence = state_.sequence;
  const bool ends_trial = state_.trial != Slot::kNone;
  const Slot former = ends_trial ? state_.active : other(state_.active);
  if (!ends_trial) {
    if (state_.active == Slot::kNone) return fail(error, "nothing is installed");
    // What lies there whole may be a bundle that was refused, or that nobody has checked.
    Manifest manifest;
    Health health;
    if (!check_files(former, &manifest, error) || !run_golden(former, manifest, &health, error)) {
      return fail(error, "there is nothing to go back to: " + *error);
    }
  }
  if (!lock_state(error)) return false;
  if (state_.sequence != sequence) return fail(error, "the state changed meanwhile");
  State next = state_;
  next.active = former;
  next.trial = Slot::kNone;
  next.starts = 0;
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

std::string Device::read_log() const {
  std::string older, newer, ignored;
  constexpr size_t kMost = 2 * kMostLog;
  // The clock may be wrong; what was written first stands first.
  read_file(root_ + "/log.1", kMost, &older, &ignored);
  read_file(root_ + "/log", kMost, &newer, &ignored);
  return older + newer;
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
