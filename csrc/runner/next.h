#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "runner/address.h"
#include "runner/frame.h"
#include "runner/notify.h"

namespace edgekit::runner {

/// The server that goes on with what this one computes, and the connection to it. Calls wait, but
/// no longer than the time given to open(), and keep the service manager's watchdog meanwhile.
class Next {
 public:
  ~Next();

  /// Connects, and tries again for `seconds`. The server must serve the plan of this SHA-256 in
  /// hexadecimal, where `digest` is not null, and take requests of `request_size` bytes at most.
  bool open(const Address& address, double seconds, const char* digest, size_t request_size,
            Notifier* notifier, std::string* error);

  /// What the server says of itself and of those behind it: whole HELLO frames.
  const std::vector<uint8_t>& hellos() const { return hellos_; }

  /// Returns the most bytes of a result.
  size_t result_size() const { return result_size_; }

  /// Sends a whole RUN frame of `size` bytes, and reads the payload of its result, of result_size()
  /// bytes at most, to `result`. Where the connection turns out to be broken it makes a new one and
  /// asks again, once. Returns the result's bytes, or -1 and sets `why`.
  int64_t ask(const uint8_t* frame, size_t size, uint8_t* result, std::string* why);

 private:
  bool connect_once(std::string* error);
  bool read_hellos(std::vector<uint8_t>* hellos, std::string* error);
  bool move(bool sends, uint8_t* data, size_t size, std::string* error);
  int64_t ask_once(const uint8_t* frame, size_t size, uint8_t* result, std::string* why);
  void close_socket();

  Address address_;
  double seconds_ = 0;
  double deadline_ = 0;
  Notifier* notifier_ = nullptr;
  int socket_ = -1;
  /// Whether the connection ended, so that a new one may do better.
  bool broken_ = false;
  std::vector<uint8_t> hellos_;
  size_t result_size_ = 0;
};

}  // namespace edgekit::runner
