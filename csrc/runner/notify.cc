#include "runner/notify.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "runner/address.h"
#include "runner/clock.h"

namespace edgekit::runner {

Notifier::Notifier() : interval_(kNever), next_(kNever) {
  const char* const path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr) return;
  Address address;
  std::string error;
  if (!make_unix_address(path, &address, &error)) return;
  socket_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (connect(socket_, address.get(), address.size) != 0) {
    close(socket_);
    socket_ = -1;
    return;
  }
  const char* const microseconds = std::getenv("WATCHDOG_USEC");
  const char* const process = std::getenv("WATCHDOG_PID");
  if (microseconds == nullptr) return;
  if (process != nullptr && std::strtol(process, nullptr, 10) != getpid()) return;
  // Not strtod(), which is 9 kB of a board's program.
  const unsigned long long allowed = std::strtoull(microseconds, nullptr, 10);
  if (allowed == 0) return;
  interval_ = 0.5e-6 * static_cast<double>(allowed);
  next_ = 0;
}

Notifier::~Notifier() {
  if (socket_ >= 0) close(socket_);
}

void Notifier::tell(const char* state) const {
  if (socket_ >= 0) send(socket_, state, std::strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void Notifier::keep_watchdog() {
  if (now() < next_) return;
  tell("WATCHDOG=1");
  next_ = now() + interval_;
}

double Notifier::seconds_left() const { return std::max(next_ - now(), 0.0); }

}  // namespace edgekit::runner
