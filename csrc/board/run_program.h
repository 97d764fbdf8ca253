#pragma once

#include <string>
#include <vector>

namespace edgekit::board {

/// Runs a program until it ends or `seconds` have passed, when it is killed. Its standard output
/// goes to the file `output`. A program of another CPU runs where the environment's
/// EDGEKIT_EMULATOR holds the words before it: "/usr/bin/qemu-aarch64-static -cpu cortex-a72".
///
/// Returns false and sets `error` unless it ended with exit status 0; `error` ends with the last
/// line of its standard error.
bool run_program(const std::vector<std::string>& words, const std::string& output, unsigned seconds,
                 std::string* error);

}  // namespace edgekit::board
