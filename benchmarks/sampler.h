#pragma once

#include <time.h>

#include <algorithm>
#include <vector>

namespace edgekit::benchmark {

/// Returns the processor time of the calling thread, which other programs' turns do not count in.
inline double thread_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// Times one contestant. Contestants take turns sample by sample, so that a slow minute of the
/// machine hits all of them.
class Sampler {
 public:
  /// Calls `call` once, and settles how often a sample has to call it to last a millisecond.
  template <class Call>
  explicit Sampler(const Call& call) {
    constexpr double kSecondsPerSample = 1e-3;
    const double once = std::max(time(call, 1), 1e-7);
    runs_ = static_cast<int>(std::max(1.0, kSecondsPerSample / once));
    cost_ = once * runs_;
  }

  /// Times the call with its memory as the call before it leaves it, not the other contestants.
  template <class Call>
  void sample(const Call& call) {
    call();
    seconds_.push_back(time(call, runs_) / runs_);
  }

  /// Returns about how many seconds a sample takes.
  double cost() const { return cost_; }

  /// Returns the median of the samples: seconds a call.
  double median() const {
    std::vector<double> sorted = seconds_;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 2];
  }

 private:
  template <class Call>
  static double time(const Call& call, int runs) {
    const double start = thread_seconds();
    for (int i = 0; i < runs; ++i) call();
    return thread_seconds() - start;
  }

  int runs_ = 1;
  double cost_ = 0;
  std::vector<double> seconds_;
};

/// Returns how many rounds of samples that cost `seconds` in all are worth their time.
inline int rounds(double seconds) {
  constexpr double kBudget = 0.6;
  return static_cast<int>(std::clamp(kBudget / seconds, 3.0, 25.0));
}

}  // namespace edgekit::benchmark
