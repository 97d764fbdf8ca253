#pragma once

#include <string>

namespace edgekit::runner {

/// Turns SIGTERM and SIGINT into bytes that can be waited for: returns a descriptor that can be
/// read from once one has come, whichever thread it came to. Returns -1 and sets `error` where
/// there is none to be had.
int catch_stop_signals(std::string* error);

}  // namespace edgekit::runner
