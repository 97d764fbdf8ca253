#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "board/device.h"
#include "board/files.h"
#include "json/json_writer.h"
#include "runtime/linked_parts.h"
#include "trust/minisign.h"

namespace edgekit::board {
namespace {

constexpr char kUsage[] =
    "usage: edgekit-board ROOT COMMAND\n"
    "       edgekit-board --version | --help\n"
    "\n"
    "Keeps a device's bundles in two slots under the folder ROOT: takes a new one beside the one "
    "that\n"
    "runs, checks it, switches, and goes back.\n"
    "\n"
    "  init BOARD KEY...      makes ROOT for the board of that name; these keys may sign: each a\n"
    "                         public key's file, or the file's second line\n"
    "  adopt SIZE KEY...      makes ROOT for the board of a bundle: takes its signature of SIZE "
    "bytes\n"
    "                         and its manifest from standard input\n"
    "  begin SIZE             takes a signature of SIZE bytes and the manifest behind it from "
    "standard\n"
    "                         input; prints the files that are missing: OFFSET SIZE PATH; one "
    "that\n"
    "                         runs already: prints trial or active and the slot, exit status 4\n"
    "  put (PATH OFFSET)...   takes missing files' bytes, each from OFFSET on, one after the other "
    "from\n"
    "                         standard input; prints now and then how many came\n"
    "  chunks PATH            prints size and SHA-256 of a file that is active, and of each chunk "
    "of it: SIZE DIGEST\n"
    "  patch PATH             makes a missing file of the active one of that path, by a recipe "
    "from standard input\n"
    "  key                    prints the device's public key, for which plans are locked; makes "
    "the secret one first\n"
    "  unlock a | b FILE      writes the locked plan of a slot to FILE, which belongs on a file "
    "system in memory\n"
    "  check [a | b]          checks a slot: signature, digests, golden inputs, time, memory (the "
    "one\n"
    "                         that is not active)\n"
    "  switch                 checks the slot that is not active and puts it on trial\n"
    "  start                  prints the folder to run; counts the starts of a trial, and takes "
    "it\n"
    "                         back when they are used up\n"
    "  confirm [a | b]        ends the trial (of this slot, and of no other): it stays\n"
    "  back WHY               ends the trial, or goes to the other slot: the former one runs\n"
    "  status                 prints JSON: which slot runs, and the signed bundles of both\n"
    "  log                    prints what happened: time, number of the change, what\n"
    "\n"
    "put, patch and switch take --of DIGEST before all else, the SHA-256 of the manifest that was\n"
    "begun: then they leave alone what another installer began meanwhile.\n"
    "\n"
    "exit status: 0 done, 1 refused or failed, 2 wrong command line, 3 nothing is installed "
    "(start),\n"
    "4 runs already (begin)\n";

enum Status { kDone = 0, kFailed = 1, kBadUsage = 2, kNothing = 3, kPresent = 4 };

constexpr size_t kMostSignature = 65536;
// How often `put` tells how far it is.
constexpr uint64_t kTellBytes = 256 << 10;

// Tells what went wrong in one line, whatever names a bundle holds.
int fail(std::string message) {
  std::replace_if(
      message.begin(), message.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; },
      '?');
  std::fprintf(stderr, "edgekit-board: %s\n", message.c_str());
  return kFailed;
}

int misuse(const std::string& message) {
  std::fprintf(stderr, "edgekit-board: %s\n\n%s", message.c_str(), kUsage);
  return kBadUsage;
}

bool parse_number(const std::string& text, uint64_t* number) {
  if (text.empty() || text.size() > 18) return false;
  *number = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    *number = *number * 10 + static_cast<uint64_t>(c - '0');
  }
  return true;
}

// Reads public keys: files, or what stands in their second line.
bool read_keys(const std::vector<std::string>& words, std::vector<std::string>* keys,
               std::string* error) {
  for (size_t i = 1; i < words.size(); ++i) {
    std::string& text = keys->emplace_back("untrusted comment: minisign public key\n" + words[i]);
    PublicKey key;
    if (read_public_key(text, &key, error)) {
      text += '\n';
    } else if (!read_file(words[i], kMostSignature, &text, error)) {
      return false;
    }
  }
  return true;
}

int init(const std::string& root, const std::vector<std::string>& words) {
  if (words.size() < 2) return misuse("init needs the board's name and a public key");
  std::vector<std::string> keys;
  std::string error;
  return read_keys(words, &keys, &error) && Device::create(root, words[0], keys, &error)
             ? kDone
             : fail(error);
}

// A manifest and its signature, from standard input.
struct Signed {
  std::string text;
  size_t split = 0;

  std::string_view signature() const { return std::string_view(text).substr(0, split); }
  std::string_view manifest() const { return std::string_view(text).substr(split); }
};

// Reads the signature, of as many bytes as `size` says, and the manifest behind it.
int read_signed(const std::string& command, const std::string& size, Signed* read) {
  uint64_t count;
  if (!parse_number(size, &count) || count > kMostSignature) {
    return misuse(command + " needs the size of the signature");
  }
  const Descriptor input(dup(STDIN_FILENO));
  read->split = static_cast<size_t>(count);
  read->text.resize(read->split + kMostManifest + 1);
  const ssize_t there = input.read_fully(read->text.data(), read->text.size());
  if (there < static_cast<ssize_t>(count)) {
    return fail("standard input ends within the signature");
  }
  read->text.resize(static_cast<size_t>(there));
  return kDone;
}

int adopt(const std::string& root, const std::vector<std::string>& words) {
  if (words.size() < 2) return misuse("adopt needs the size of the signature and a public key");
  std::vector<std::string> keys;
  std::string error;
  Signed bundle;
  if (!read_keys(words, &keys, &error)) return fail(error);
  if (const int status = read_signed("adopt", words[0], &bundle)) return status;
  return Device::create_for(root, bundle.manifest(), bundle.signature(), keys, &error)
             ? kDone
             : fail(error);
}

int begin(Device* device, const std::vector<std::string>& words) {
  if (words.size() != 1) return misuse("begin needs the size of the signature");
  Signed bundle;
  if (const int status = read_signed("begin", words[0], &bundle)) return status;
  std::vector<Wanted> wanted;
  Slot present;
  std::string error;
  if (!device->begin(bundle.manifest(), bundle.signature(), &present, &wanted, &error)) {
    return fail(error);
  }
  if (present != Slot::kNone) {
    std::printf("%s %s\n", present == device->state().trial ? "trial" : "active",
                slot_name(present));
    return kPresent;
  }
  for (const Wanted& file : wanted) {
    std::printf("%llu %llu %s\n", static_cast<unsigned long long>(file.offset),
                static_cast<unsigned long long>(file.size), file.path.c_str());
  }
  return kDone;
}

int put(Device* device, const std::vector<std::string>& words) {
  std::vector<Part> parts;
  for (size_t i = 0; i + 1 < words.size(); i += 2) {
    uint64_t offset;
    if (!parse_number(words[i + 1], &offset)) break;
    parts.push_back({words[i], offset});
  }
  if (words.empty() || parts.size() * 2 != words.size()) {
    return misuse("put needs a path and an offset, or several such pairs");
  }
  uint64_t came = 0, told = 0;
  const auto tell = [&](uint64_t bytes) {
    came += bytes;
    if (came - told < kTellBytes) return;
    told = came;
    std::printf("%llu\n", static_cast<unsigned long long>(came));
    std::fflush(stdout);
  };
  std::string error;
  const Descriptor source(dup(STDIN_FILENO));
  return device->put(parts, source, tell, &error) ? kDone : fail(error);
}

int patch(Device* device, const std::vector<std::string>& words) {
  if (words.size() != 1) return misuse("patch needs a path");
  std::string error;
  return device->patch(words[0], Descriptor(dup(STDIN_FILENO)), &error) ? kDone : fail(error);
}

void print_digest(uint64_t size, const uint8_t* digest, size_t bytes) {
  std::printf("%llu ", static_cast<unsigned long long>(size));
  for (size_t i = 0; i < bytes; ++i) std::printf("%02x", digest[i]);
  std::putchar('\n');
}

int chunks(Device* device, const std::vector<std::string>& words) {
  if (words.size() != 1) return misuse("chunks needs a path");
  BaseFacts facts;
  std::vector<Chunk> found;
  std::string error;
  if (!device->list_chunks(words[0], &facts, &found, &error)) return fail(error);
  print_digest(facts.size, facts.sha256, sizeof facts.sha256);
  for (const Chunk& chunk : found) print_digest(chunk.size, chunk.digest, sizeof chunk.digest);
  return kDone;
}

void print_health(const Health& health, Slot slot) {
  JsonWriter json;
  json.begin_object();
  json.key("slot").text(slot_name(slot));
  json.key("layers_equal").number(uint64_t{health.layers});
  json.key("median_us").number(health.latency_us);
  json.key("peak_resident_bytes").number(health.memory);
  json.end_object();
  std::fputs(json.finish().c_str(), stdout);
}

bool parse_slot(const std::string& word, Slot* slot) {
  if (word != "a" && word != "b") return false;
  *slot = word == "a" ? Slot::kA : Slot::kB;
  return true;
}

int check(Device* device, const std::vector<std::string>& words) {
  Slot slot = other(device->state().active);
  if (words.size() > 1 || (!words.empty() && !parse_slot(words[0], &slot))) {
    return misuse("check takes a or b");
  }
  Health health;
  std::string error;
  if (!device->check(slot, &health, &error)) return fail(error);
  print_health(health, slot);
  return kDone;
}

int switch_over(Device* device, const std::vector<std::string>& words) {
  if (!words.empty()) return misuse("switch takes nothing more");
  Health health;
  std::string error;
  if (!device->switch_over(&health, &error)) return fail(error);
  print_health(health, device->state().trial);
  return kDone;
}

int start(Device* device, const std::vector<std::string>& words) {
  if (!words.empty()) return misuse("start takes nothing more");
  Slot slot;
  std::string error;
  if (!device->start(&slot, &error)) return fail(error);
  if (slot == Slot::kNone) return kNothing;
  std::printf("%s\n", device->slot_path(slot).c_str());
  return kDone;
}

int key(Device* device, const std::vector<std::string>& words) {
  if (!words.empty()) return misuse("key takes nothing more");
  std::string recipient, error;
  if (!device->make_key(&recipient, &error)) return fail(error);
  std::printf("%s\n", recipient.c_str());
  return kDone;
}

int unlock(Device* device, const std::vector<std::string>& words) {
  Slot slot;
  if (words.size() != 2 || !parse_slot(words[0], &slot))
    return misuse("unlock needs a or b, and a file");
  std::string error;
  return device->unlock(slot, words[1], &error) ? kDone : fail(error);
}

int confirm(Device* device, const std::vector<std::string>& words) {
  Slot slot = device->state().running();
  if (words.size() > 1 || (!words.empty() && !parse_slot(words[0], &slot))) {
    return misuse("confirm takes a or b");
  }
  if (slot != device->state().running()) {
    return fail("slot " + words[0] + " is not the one that runs");
  }
  std::string error;
  return device->confirm(&error) ? kDone : fail(error);
}

int back(Device* device, const std::vector<std::string>& words) {
  if (words.size() != 1) return misuse("back needs a reason, as one word or quoted");
  std::string error;
  return device->go_back(words[0], &error) ? kDone : fail(error);
}

int log(Device* device, const std::vector<std::string>& words) {
  if (!words.empty()) return misuse("log takes nothing more");
  std::fputs(device->read_log().c_str(), stdout);
  return kDone;
}

int status(Device* opened, const std::vector<std::string>& words) {
  if (!words.empty()) return misuse("status takes nothing more");
  const Device& device = *opened;
  const State& state = device.state();
  JsonWriter json;
  json.begin_object();
  json.key("version").text(EDGEKIT_VERSION);
  json.key("board").text(device.board());
  json.key("active").text(slot_name(state.active));
  json.key("trial").text(slot_name(state.trial));
  json.key("starts").number(state.starts);
  json.key("floor").number(state.floor);
  json.key("sequence").number(state.sequence);
  json.key("slots").begin_object();
  for (const Slot slot : {Slot::kA, Slot::kB}) {
    Occupant occupant;
    if (!device.read_occupant(slot, &occupant)) continue;
    json.key(slot_name(slot)).begin_object();
    json.key("release").number(occupant.release);
    json.key("manifest_sha256").text(occupant.manifest);
    json.end_object();
  }
  json.end_object();
  json.end_object();
  std::fputs(json.finish().c_str(), stdout);
  return kDone;
}

struct Command {
  const char* name;
  Device::Use use;
  int (*run)(Device* device, const std::vector<std::string>& words);
  bool takes_bundle = false;
};

constexpr Command kCommands[] = {
    {"begin", Device::Use::kSlots, begin},       {"put", Device::Use::kSlots, put, true},
    {"patch", Device::Use::kSlots, patch, true}, {"chunks", Device::Use::kSlots, chunks},
    {"check", Device::Use::kSlots, check},       {"switch", Device::Use::kSlots, switch_over, true},
    {"start", Device::Use::kState, start},       {"confirm", Device::Use::kState, confirm},
    {"key", Device::Use::kState, key},           {"unlock", Device::Use::kState, unlock},
    {"back", Device::Use::kSlots, back},         {"status", Device::Use::kState, status},
    {"log", Device::Use::kState, log},
};

bool is_digest(const std::string& word) {
  return word.size() == 64 && word.find_first_not_of("0123456789abcdef") == std::string::npos;
}

int run(int argc, char** argv) {
  const std::vector<std::string> all(argv + 1, argv + argc);
  if (all.size() == 1 && all[0] == "--version") {
    std::printf("edgekit-board %s\n", EDGEKIT_VERSION);
    return kDone;
  }
  if (all.size() == 1 && (all[0] == "--help" || all[0] == "-h")) {
    std::fputs(kUsage, stdout);
    return kDone;
  }
  if (all.size() < 2) return misuse("which folder, and which command?");
  const std::string& root = all[0];
  const std::string& command = all[1];
  std::vector<std::string> words(all.begin() + 2, all.end());
  if (command == "init") return init(root, words);
  if (command == "adopt") return adopt(root, words);
  for (const Command& known : kCommands) {
    if (command != known.name) continue;
    Device device;
    if (known.takes_bundle && !words.empty() && words[0] == "--of") {
      if (words.size() < 2 || !is_digest(words[1])) {
        return misuse("--of needs a manifest's SHA-256: 64 digits, 0 to 9 and a to f");
      }
      device.expect(words[1]);
      words.erase(words.begin(), words.begin() + 2);
    }
    std::string error;
    if (!device.open(root, known.use, &error)) return fail(error);
    return known.run(&device, words);
  }
  return misuse("there is no command " + command);
}

}  // namespace
}  // namespace edgekit::board

int main(int argc, char** argv) { return edgekit::board::run(argc, argv); }
