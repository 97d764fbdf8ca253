#include "runner/stop_signal.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

namespace edgekit::runner {
namespace {

// A signal handler can only reach what is global.
int stop_pipe[2];

void ask_to_stop(int) {
  const int saved = errno;
  // A full pipe has been asked already.
  (void)!write(stop_pipe[1], "", 1);
  errno = saved;
}

}  // namespace

int catch_stop_signals(std::string* error) {
  if (pipe2(stop_pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
    *error = std::strerror(errno);
    return -1;
  }
  struct sigaction action = {};
  action.sa_handler = ask_to_stop;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  return stop_pipe[0];
}

}  // namespace edgekit::runner
