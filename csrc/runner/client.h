#pragma once

#include <cstddef>
#include <cstdint>

#include "runner/clock.h"
#include "runner/frame.h"

namespace edgekit::runner {

/// The most bytes of an error's payload: its number, and words.
constexpr size_t kMostError = 256;

/// One connection.
struct Client {
  enum class Phase {
    kFree,
    /// Between two requests, or within a header.
    kHeader,
    kPayload,
    /// Sends `bytes`.
    kAnswer,
    /// Was told of an error. Unread bytes would have its end of the connection reset, and the error
    /// lost: they are read and dropped.
    kDrain,
  };

  Phase phase = Phase::kFree;
  int socket = -1;
  /// Whether the connection ends with the answer.
  bool is_last = false;
  /// Of what the phase reads or sends: bytes done, and of how many.
  size_t done = 0;
  size_t goal = 0;
  /// When the phase has taken too long; and when the last one ended.
  double deadline = kNever;
  double idle_since = 0;
  const uint8_t* bytes = nullptr;
  FrameHeader frame = {FrameKind::kRun, 0, 0, 0};
  uint8_t header[kFrameHeaderSize];
  /// Room for the largest request, and for the largest answer with its header.
  uint8_t* request = nullptr;
  uint8_t* answer = nullptr;

  bool is_idle() const { return phase == Phase::kHeader && done == 0; }
};

}  // namespace edgekit::runner
