#pragma once

#include <string>

#include "runner/options.h"
#include "runtime/session.h"

namespace edgekit::runner {

/// Serves the session's plan at `options.serve` until SIGTERM or SIGINT, as docs/serving.md says:
/// one inference at a time, a bounded number of clients, nothing allocated for a request. Returns
/// false and sets `error` when it can't begin.
bool serve(Session* session, const Plan& plan, const Options& options, std::string* error);

}  // namespace edgekit::runner
