#include "board/run_program.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "board/files.h"

extern char** environ;

namespace edgekit::board {
namespace {

constexpr long kPauseNanoseconds = 5'000'000;

constexpr size_t kMostErrors = 1 << 20;

// Returns what a program said last on its error stream, behind ": "; nothing where it said nothing.
std::string read_last_words(const std::string& path) {
  std::string text, ignored;
  read_file(path, kMostErrors, &text, &ignored);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) {
    text.pop_back();
  }
  const size_t end = text.rfind('\n');
  if (end != std::string::npos) text.erase(0, end + 1);
  return text.empty() ? "" : ": " + text;
}

// Puts the words of EDGEKIT_EMULATOR, which blanks part, before a program of another CPU's.
std::vector<std::string> add_emulator(const std::vector<std::string>& words) {
  std::vector<std::string> all;
  const char* const emulator = std::getenv("EDGEKIT_EMULATOR");
  std::string_view rest = emulator == nullptr ? "" : emulator;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(' '), rest.size());
    if (end > 0) all.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

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
  const std::string errors = output + ".errors";
  const std::vector<std::string> whole = add_emulator(words);
  std::vector<char*> arguments;
  arguments.reserve(whole.size() + 1);
  for (const std::string& word : whole) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_addopen(&actions, 2, errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  pid_t process;
  const int failure =
      posix_spawn(&process, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failure != 0) {
    *error = words[0] + " does not start: " + std::strerror(failure);
    return false;
  }
  int status = 0;
  const bool ended = wait_for(process, seconds, &status);
  if (!ended) {
    kill(process, SIGKILL);
    waitpid(process, &status, 0);
  }
  const std::string said = status == 0 ? "" : read_last_words(errors);
  unlink(errors.c_str());
  if (!ended) {
    *error = words[0] + " took more than " + std::to_string(seconds) + " s and was killed";
    return false;
  }
  if (WIFSIGNALED(status)) {
    *error = words[0] + " was ended by signal " + std::to_string(WTERMSIG(status)) + said;
    return false;
  }
  if (WEXITSTATUS(status) != 0) {
    *error = words[0] + " ended with exit status " + std::to_string(WEXITSTATUS(status)) + said;
    return false;
  }
  return true;
}

}  // namespace edgekit::board
