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

  /// Sends WATCHDOG=1 where it is due: twice in what WATCHDOG_USEC allows, as
  /// sd_watchdog_enabled(3) advises; never where nobody watches this process.
  void keep_watchdog();

  /// Returns the seconds until keep_watchdog() should be called again, 0 at least.
  double seconds_left() const;

 private:
  int socket_ = -1;
  double interval_;
  double next_;
};

}  // namespace edgekit::runner
