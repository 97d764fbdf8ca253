#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace edgekit::board {

/// One of the two places for a bundle.
enum class Slot : uint8_t { kNone, kA, kB };

/// Returns "a", "b" or "-".
const char* slot_name(Slot slot);

/// Returns the other place; kA where `slot` is kNone.
Slot other(Slot slot);

/// What a device's root folder is in. It is one small file that is only ever replaced whole, so
/// that every change of it is one step.
///
///   nothing runs:   active -,  trial -
///   a runs:         active a,  trial -
///   b is on trial:  active a,  trial b,  starts = how often it may still be started unconfirmed
struct State {
  Slot active = Slot::kNone;
  Slot trial = Slot::kNone;
  uint64_t starts = 0;
  /// The lowest release that may be installed: the highest that was confirmed.
  uint64_t floor = 0;
  /// Grows with every change: it orders the log where clocks are wrong.
  uint64_t sequence = 0;

  /// Returns the slot that runs next: the trial where there is one.
  Slot running() const { return trial != Slot::kNone ? trial : active; }
};

/// Returns the file's content: a line for each member, and the CRC-32C of these.
std::string format_state(const State& state);

/// Reads what format_state() wrote. Returns false for anything else.
bool parse_state(std::string_view text, State* state);

}  // namespace edgekit::board
