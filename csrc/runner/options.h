#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace edgekit::runner {

/// What the program was asked to do.
struct Options {
  enum class Action { kRun, kShowVersion, kShowIsas, kShowHelp };

  struct Input {
    std::string name;
    std::string path;
  };

  Action action = Action::kRun;
  std::string plan;
  std::vector<Input> inputs;
  /// Empty: outputs are not written.
  std::string output_dir;
  size_t threads = 1;
  /// Where threads run, if not where the plan says.
  std::optional<std::vector<uint32_t>> cores;
  size_t repeat = 1;
  bool profile = false;
  bool digests = false;
  bool json = false;
  /// Where to serve; empty: the plan is run instead.
  std::string serve;
  /// Where another server goes on with what is computed; empty: nowhere.
  std::string next;
  /// Seconds that a client may take to send a request, and to take its result.
  size_t timeout = 10;
  /// Clients at a time.
  size_t clients = 8;
};

/// The text of --help.
extern const char kUsage[];

/// Reads the command line. Returns false and sets `error` when it doesn't fit kUsage.
bool parse_options(int argc, char** argv, Options* options, std::string* error);

}  // namespace edgekit::runner
