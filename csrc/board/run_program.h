#pragma once

#include <string>
#include <vector>

namespace edgekit::board {

/// Runs a program until it ends or `seconds` have passed, when it is killed. Its standard output
/// goes to the file `output`, its standard error to that of this program.
///
/// Returns false and sets `error` unless it ended with exit status 0.
bool run_program(const std::vector<std::string>& words, const std::string& output, unsigned seconds,
                 std::string* error);

}  // namespace edgekit::board
