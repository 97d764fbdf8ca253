#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "runtime/thread_pool.h"

namespace edgekit::compress {

/// Told between steps how many of how many are done; what it throws ends the work.
using Progress = std::function<void(size_t done, size_t total)>;

/// Threads that take units of work one after the other, whoever is free.
class Crew {
 public:
  /// Starts the threads but the caller's. Throws std::runtime_error where none are to be had.
  explicit Crew(size_t threads);

  size_t size() const { return pool_->size(); }

  /// Calls work(unit, thread) for each unit in [0, units) and returns when all are done. `work`
  /// must not throw. Only one thread may call this at a time.
  template <typename Work>
  void run(size_t units, const Work& work) {
    struct Context {
      const Work& work;
      size_t units;
      std::atomic<size_t> next{0};
    } context{work, units};
    if (units == 0) return;
    pool_->run(
        pool_->size(), 1,
        [](const void* shared, size_t, size_t, size_t thread) {
          auto& from = *static_cast<Context*>(const_cast<void*>(shared));
          for (size_t unit; (unit = from.next.fetch_add(1)) < from.units;) from.work(unit, thread);
        },
        &context);
  }

 private:
  std::unique_ptr<ThreadPool> pool_;
};

}  // namespace edgekit::compress
