#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/plan.h"

namespace edgekit::runner {

/// What a frame is for; docs/serving.md describes the protocol.
enum class FrameKind : uint8_t { kHello = 1, kRun = 2, kResult = 3, kError = 4 };

/// Why a request got no result: the first word of an error's payload.
enum class FrameError : uint32_t {
  kMalformed = 1,
  kBusy = 2,
  kTooSlow = 3,
  kStopping = 4,
  kNext = 5
};

constexpr size_t kFrameHeaderSize = 16;

/// The header of a frame. Little-endian: "EKSV", u8 version, u8 kind, u16 size, u32 request, u32
/// length.
struct FrameHeader {
  FrameKind kind;
  /// An index of Plan::size(); of a HELLO, how many others follow.
  uint16_t size;
  /// The client's own number of a request, which its result repeats.
  uint32_t request;
  /// Bytes behind the header.
  uint32_t length;
};

/// Writes the kFrameHeaderSize bytes of a header.
void write_frame_header(const FrameHeader& header, uint8_t* bytes);

/// Reads a header. Returns false where it is none of this version.
bool read_frame_header(const uint8_t* bytes, FrameHeader* header);

/// Writes `value` as four bytes, little-endian.
void write_u32(uint32_t value, uint8_t* bytes);

/// Returns where in a payload the next tensor begins after `end` bytes: at a multiple of 8.
constexpr size_t align_in_frame(size_t end) { return (end + 7) / 8 * 8; }

/// Returns the bytes of a payload that holds these tensors.
size_t payload_size(const std::vector<TensorInfo>& tensors);

/// What every HELLO's payload begins with.
struct HelloPrefix {
  /// SHA-256 of the plan's file, in hexadecimal.
  std::string digest;
  /// The most bytes of the payload of a request, and of its result.
  uint32_t request_size;
  uint32_t result_size;
};

constexpr size_t kHelloPrefix = 72;

/// Reads the first kHelloPrefix bytes of a HELLO's payload.
HelloPrefix read_hello_prefix(const uint8_t* bytes);

/// Returns the HELLO frames of a plan: its own, and `others`, those of the servers that its outputs
/// go on to.
std::vector<uint8_t> make_hello(const Plan& plan, const HelloPrefix& prefix,
                                const std::vector<uint8_t>& others);

}  // namespace edgekit::runner
