#pragma once

#include <string>

namespace edgekit::runner {

/// Tells a service manager how a service is, as sd_notify(3) does, without its library. Where
/// NOTIFY_SOCKET is not set it tells nobody.
class Notifier {
 public:
  Notifier();
  ~Notifier();
  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;

  /// Sends a state such as "READY=1". A manager that does not listen is no error.
  void tell(const char* state) const;

  /// Seconds between two WATCHDOG=1: half of what WATCHDOG_USEC allows, as sd_watchdog_enabled(3)
  /// advises; 0 where nobody watches this process.
  double watchdog_seconds() const { return watchdog_seconds_; }

 private:
  int socket_ = -1;
  double watchdog_seconds_ = 0;
};

}  // namespace edgekit::runner
