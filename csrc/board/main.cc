#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "board/device.h"
#include "board/files.h"
#include "json/json_writer.h"

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
    "  init BOARD KEY.pub...  makes ROOT for the board of that name; these keys may sign\n"
    "  begin SIZE             takes a signature of SIZE bytes and the manifest behind it from "
    "standard\n"
    "                         input; prints the files that are missing: OFFSET SIZE PATH\n"
    "  put PATH OFFSET        takes a missing file's bytes from OFFSET on from standard input\n"
    "  chunks PATH            prints size and SHA-256 of a file that is active, and of each chunk "
    "of it: SIZE DIGEST\n"
    "  patch PATH             makes a missing file of the active one of that path, by a recipe "
    "from standard input\n"
    "  check [a | b]          checks a slot: signature, digests, golden inputs, time, memory (the "
    "one\n"
    "                         that is not active)\n"
    "  switch                 checks the slot that is not active and puts it on trial\n"
    "  start                  prints the folder to run; counts the starts of a trial, and takes "
    "it\n"
    "                         back when they are used up\n"
    "  confirm                ends the trial: it stays\n"
    "  back WHY               ends the trial, or goes to the other slot: the former one runs\n"
    "  status                 prints JSON: which slot runs, and the signed bundles of both\n"
    "\n"
    "exit status: 0 done, 1 refused or failed, 2 wrong command line, 3 nothing is installed "
    "(start)\n";

enum Status { kDone = 0, kFailed = 1, kBadUsage = 2, kNothing = 3 };

constexpr size_t kMostSignature = 65536;

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

int init(const std::string& root, const std::vector<std::string>& words) {
  if (words.size() < 2) return misuse("init needs the board's name and a public key");
  std::vector<std::string> keys;
  std::string error;
  for (size_t i = 1; i < words.size(); ++i) {
    if (!read_file(words[i], kMostSignature, &keys.emplace_back(), &error)) return fail(error);
  }
  return Device::create(root, words[0], keys, &error) ? kDone : fail(error);
}

int begin(Device* device, const std::vector<std::string>& words) {
  uint64_t size;
  if (words.size() != 1 || !parse_number(words[0], &size) || size > kMostSignature) {
    return misuse("begin needs the size of the signature");
  }
  const Descriptor input(dup(STDIN_FILENO));
  std::string text(static_cast<size_t>(size) + kMostManifest + 1, '\0');
  const ssize_t count = input.read_fully(text.data(), text.size());
  if (count < static_cast<ssize_t>(size)) return fail("standard input ends within the signature");
  text.resize(static_cast<size_t>(count));
  std::vector<Wanted> wanted;
  std::string error;
  const std::string_view whole = text;
  const auto split = static_cast<size_t>(size);
  if (!device->begin(whole.substr(split), whole.substr(0, split), &wanted, &error)) {
    return fail(error);
  }
  for (const Wanted& file : wanted) {
    std::printf("%llu %llu %s\n", static_cast<unsigned long long>(file.offset),
                static_cast<unsigned long long>(file.size), file.path.c_str());
  }
  return kDone;
}

int put(Device* device, const std::vector<std::string>& words) {
  uint64_t offset;
  if (words.size() != 2 || !parse_number(words[1], &offset)) {
    return misuse("put needs a path and an offset");
  }
  std::string error;
  return device->put(words[0], offset, Descriptor(dup(STDIN_FILENO)), &error) ? kDone : fail(error);
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

int chunks(const Device& device, const std::vector<std::string>& words) {
  if (words.size() != 1) return misuse("chunks needs a path");
  BaseFacts facts;
  std::vector<Chunk> found;
  std::string error;
  if (!device.list_chunks(words[0], &facts, &found, &error)) return fail(error);
  print_digest(facts.size, facts.sha256, sizeof facts.sha256);
  for (const Chunk& chunk : found) print_digest(chunk.size, chunk.digest, sizeof chunk.digest);
  return kDone;
}

void print_health(const Health& health) {
  JsonWriter json;
  json.begin_object();
  json.key("layers_equal").number(uint64_t{health.layers});
  json.key("median_us").number(health.latency_us);
  json.key("peak_resident_bytes").number(health.memory);
  json.end_object();
  std::fputs(json.finish().c_str(), stdout);
}

int check(Device* device, const std::vector<std::string>& words) {
  Slot slot = other(device->state().active);
  if (!words.empty()) {
    if (words.size() > 1 || (words[0] != "a" && words[0] != "b"))
      return misuse("check takes a or b");
    slot = words[0] == "a" ? Slot::kA : Slot::kB;
  }
  Health health;
  std::string error;
  if (!device->check(slot, &health, &error)) return fail(error);
  print_health(health);
  return kDone;
}

int switch_over(Device* device) {
  Health health;
  std::string error;
  if (!device->switch_over(&health, &error)) return fail(error);
  print_health(health);
  return kDone;
}

int start(Device* device) {
  Slot slot;
  std::string error;
  if (!device->start(&slot, &error)) return fail(error);
  if (slot == Slot::kNone) return kNothing;
  std::printf("%s\n", device->slot_path(slot).c_str());
  return kDone;
}

int status(const Device& device) {
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
  const std::vector<std::string> words(all.begin() + 2, all.end());
  if (command == "init") return init(root, words);
  for (const char* const known : {"begin", "put", "patch", "chunks", "check", "switch", "start",
                                  "confirm", "back", "status"}) {
    if (command != known) continue;
    Device device;
    std::string error;
    if (!device.open(root, &error)) return fail(error);
    if (command == "begin") return begin(&device, words);
    if (command == "put") return put(&device, words);
    if (command == "patch") return patch(&device, words);
    if (command == "chunks") return chunks(device, words);
    if (command == "check") return check(&device, words);
    if (command == "back") {
      if (words.size() != 1) return misuse("back needs a reason, as one word or quoted");
      return device.go_back(words[0], &error) ? kDone : fail(error);
    }
    if (!words.empty()) return misuse(command + " takes nothing more");
    if (command == "switch") return switch_over(&device);
    if (command == "start") return start(&device);
    if (command == "status") return status(device);
    return device.confirm(&error) ? kDone : fail(error);
  }
  return misuse("there is no command " + command);
}

}  // namespace
}  // namespace edgekit::board

int main(int argc, char** argv) { return edgekit::board::run(argc, argv); }
