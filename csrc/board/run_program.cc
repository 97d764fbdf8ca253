#include "board/run_program.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>

#include <cerrno>
#include <cstring>

extern char** environ;

namespace edgekit::board {
namespace {

constexpr long kPauseNanoseconds = 5'000'000;

// Waits for a process; returns false when the time is over before it has ended.
bool wait_for(pid_t process, unsigned seconds, int* status) {
  timespec begin;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  while (waitpid(process, status, WNOHANG) == 0) {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec - begin.tv_sec > static_cast<time_t>(seconds)) return false;
    const timespec pause = {0, kPauseNanoseconds};
    nanosleep(&pause, nullptr);
  }
  return true;
}

}  // namespace

bool run_program(const std::vector<std::string>& words, const std::string& output, unsigned seconds,
                 std::string* error) {
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  pid_t process;
  const int failure =
      posix_spawn(&process, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failure != 0) {
    *error = words[0] + " does not start: " + std::strerror(failure);
    return false;
  }
  int status = 0;
  if (!wait_for(process, seconds, &status)) {
    kill(process, SIGKILL);
    waitpid(process, &status, 0);
    *error = words[0] + " took more than " + std::to_string(seconds) + " s and was killed";
    return false;
  }
  if (WIFSIGNALED(status)) {
    *error = words[0] + " was ended by signal " + std::to_string(WTERMSIG(status));
    return false;
  }
  if (WEXITSTATUS(status) != 0) {
    *error = words[0] + " ended with exit status " + std::to_string(WEXITSTATUS(status));
    return false;
  }
  return true;
}

}  // namespace edgekit::board
