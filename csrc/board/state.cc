#include "board/state.h"

#include <cstdio>
#include <cstring>

#include "runtime/crc32c.h"

namespace edgekit::board {
namespace {

constexpr char kTitle[] = "edgekit-state 1\n";

// Takes "key value\n" from the front of `text`.
bool take_line(std::string_view* text, std::string_view key, std::string_view* value) {
  const size_t end = text->find('\n');
  if (end == std::string_view::npos || text->substr(0, key.size()) != key || end <= key.size() ||
      (*text)[key.size()] != ' ') {
    return false;
  }
  *value = text->substr(key.size() + 1, end - key.size() - 1);
  text->remove_prefix(end + 1);
  return true;
}

bool take_slot(std::string_view* text, std::string_view key, Slot* slot) {
  std::string_view value;
  if (!take_line(text, key, &value)) return false;
  for (const Slot known : {Slot::kNone, Slot::kA, Slot::kB}) {
    if (value == slot_name(known)) {
      *slot = known;
      return true;
    }
  }
  return false;
}

bool take_count(std::string_view* text, std::string_view key, uint64_t* count) {
  std::string_view value;
  if (!take_line(text, key, &value) || value.empty() || value.size() > 19) return false;
  *count = 0;
  for (const char c : value) {
    if (c < '0' || c > '9') return false;
    *count = *count * 10 + static_cast<uint64_t>(c - '0');
  }
  return true;
}

std::string format_sum(std::string_view text) {
  char line[16];
  std::snprintf(line, sizeof line, "sum %08x\n", crc32c(text.data(), text.size()));
  return line;
}

}  // namespace

const char* slot_name(Slot slot) { return slot == Slot::kA ? "a" : slot == Slot::kB ? "b" : "-"; }

Slot other(Slot slot) { return slot == Slot::kA ? Slot::kB : Slot::kA; }

std::string format_state(const State& state) {
  std::string text = kTitle;
  text += std::string("active ") + slot_name(state.active) + '\n';
  text += std::string("trial ") + slot_name(state.trial) + '\n';
  text += "starts " + std::to_string(state.starts) + '\n';
  text += "floor " + std::to_string(state.floor) + '\n';
  text += "sequence " + std::to_string(state.sequence) + '\n';
  return text + format_sum(text);
}

bool parse_state(std::string_view text, State* state) {
  const std::string_view whole = text;
  *state = State();
  if (text.substr(0, std::strlen(kTitle)) != kTitle) return false;
  text.remove_prefix(std::strlen(kTitle));
  if (!take_slot(&text, "active", &state->active) || !take_slot(&text, "trial", &state->trial) ||
      !take_count(&text, "starts", &state->starts) || !take_count(&text, "floor", &state->floor) ||
      !take_count(&text, "sequence", &state->sequence)) {
    return false;
  }
  if (text != format_sum(whole.substr(0, whole.size() - text.size()))) return false;
  return state->trial == Slot::kNone || state->trial != state->active;
}

}  // namespace edgekit::board
