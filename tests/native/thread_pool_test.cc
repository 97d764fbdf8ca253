#include "runtime/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "random.h"
#include "runtime/usable_cores.h"
#include "test.h"

namespace edgekit::test {
namespace {

/// Narrows the calling thread to one core of those that it has, until it goes.
class OnOneCore {
 public:
  OnOneCore() {
    sched_getaffinity(0, sizeof before_, &before_);
    while (core_ + 1 < CPU_SETSIZE && !CPU_ISSET(core_, &before_)) ++core_;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core_, &one);
    sched_setaffinity(0, sizeof one, &one);
  }
  ~OnOneCore() { sched_setaffinity(0, sizeof before_, &before_); }
  OnOneCore(const OnOneCore&) = delete;
  OnOneCore& operator=(const OnOneCore&) = delete;

  uint32_t core() const { return core_; }

 private:
  cpu_set_t before_;
  uint32_t core_ = 0;
};

std::unique_ptr<ThreadPool> make_pool(const Threads& threads) {
  std::string error;
  auto pool = ThreadPool::create(threads, &error);
  EDGEKIT_CHECK(pool != nullptr, error);
  return pool;
}

/// As many threads as asked for on the first core and the second, however many there are.
Threads crowd(size_t count) {
  Threads threads = {count};
  for (size_t i = 0; i < count; ++i) threads.cores.push_back(i % 2);
  return threads;
}

void keep_busy(const void*, size_t begin, size_t end, size_t /*thread*/) {
  for (volatile size_t i = 2000 * begin; i < 2000 * end; i = i + 1) {
  }
}

double time_loop(ThreadPool* pool) {
  const auto begin = std::chrono::steady_clock::now();
  pool->run(16, 1, keep_busy, nullptr);
  const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - begin;
  return time.count();
}

/// Returns how many times as long a loop takes on `many` as on `few`: medians of loops in turns.
double compare_loops(ThreadPool* many, ThreadPool* few) {
  std::vector<double> times[2];
  for (int i = 0; i < 200; ++i) {
    times[0].push_back(time_loop(many));
    times[1].push_back(time_loop(few));
  }
  for (auto& side : times) std::sort(side.begin(), side.end());
  return times[0][100] / times[1][100];
}

EDGEKIT_TEST(more_threads_than_cores_do_no_harm) {
  // Threads without a core of their own don't run at all.
  const OnOneCore narrow;
  const auto one = make_pool({1});
  const auto many = make_pool({16});
  double ratio = 0;
  // A neighbour may take the core away from either side for a while, not each time from the same.
  for (int attempt = 0; attempt < 5; ++attempt) {
    ratio = compare_loops(many.get(), one.get());
    if (ratio < 1.15) return;
  }
  EDGEKIT_CHECK(false, "16 threads take " + std::to_string(ratio) + " times as long as one");
}

EDGEKIT_TEST(threads_that_share_a_core_yield_it) {
  // Affinity may be narrowed behind a pool's back. A thread that spun without yielding would hold
  // the core for a time slice, milliseconds, again and again; what is lost to switching is little
  // beside that.
  const OnOneCore narrow;
  Threads threads = {8};
  threads.cores.assign(8, narrow.core());
  const auto crowded = make_pool(threads);
  EDGEKIT_CHECK(crowded->size() == 8, std::to_string(crowded->size()) + " threads");
  const auto one = make_pool({1});
  const double ratio = compare_loops(crowded.get(), one.get());
  EDGEKIT_CHECK(ratio < 20, std::to_string(ratio) + " times as long as one");
}

EDGEKIT_TEST(no_more_threads_run_than_there_are_cores) {
  const size_t cores = count_usable_cores(1);
  EDGEKIT_CHECK(make_pool({cores})->size() == cores, "as many as cores");
  EDGEKIT_CHECK(make_pool({cores + 7})->size() == cores, "more than cores");
  const OnOneCore narrow;
  EDGEKIT_CHECK(count_usable_cores(5) == 1, "one core is left");
  EDGEKIT_CHECK(make_pool({4})->size() == 1, "four threads on one core");
  EDGEKIT_CHECK(make_pool({4, {narrow.core(), narrow.core()}})->size() == 2, "two pins");
}

EDGEKIT_TEST(threads_run_where_they_are_pinned) {
  const OnOneCore narrow;
  const auto pool = make_pool({3, std::vector<uint32_t>(3, narrow.core())});
  EDGEKIT_CHECK(pool->pinning_problem().empty(), pool->pinning_problem());
  struct Seen {
    std::atomic<size_t> elsewhere{0};
    int core;
  } seen;
  seen.core = static_cast<int>(narrow.core());
  const auto look = [](const void* context, size_t, size_t, size_t thread) {
    auto& shared = *static_cast<Seen*>(const_cast<void*>(context));
    if (thread != 0 && sched_getcpu() != shared.core) ++shared.elsewhere;
  };
  for (int i = 0; i < 50; ++i) pool->run(3, 1, look, &seen);
  EDGEKIT_CHECK(seen.elsewhere == 0, std::to_string(seen.elsewhere) + " pieces ran elsewhere");
}

EDGEKIT_TEST(a_core_that_is_not_there_does_no_harm) {
  for (const uint32_t core : {uint32_t{CPU_SETSIZE - 1}, uint32_t{CPU_SETSIZE}, UINT32_MAX}) {
    const auto pool = make_pool({2, {0, core}});
    const std::string& problem = pool->pinning_problem();
    EDGEKIT_CHECK(problem.find("core " + std::to_string(core) + ":") != std::string::npos, problem);
    std::atomic<size_t> units{0};
    const auto count = [](const void* context, size_t begin, size_t end, size_t /*thread*/) {
      *static_cast<std::atomic<size_t>*>(const_cast<void*>(context)) += end - begin;
    };
    pool->run(100, 1, count, &units);
    EDGEKIT_CHECK(units == 100, std::to_string(units) + " units");
  }
}

EDGEKIT_TEST(a_caller_that_waits_long_works_alone_for_a_while) {
  using std::chrono::milliseconds;
  const auto pool = make_pool(crowd(2));
  struct Seen {
    std::atomic<bool> begun{false};
    std::atomic<int> bodies{0};
    bool slow = false;
  } seen;
  // Of two pieces the other thread takes one, and is long in finishing it.
  const auto body = [](const void* context, size_t, size_t, size_t thread) {
    auto& shared = *static_cast<Seen*>(const_cast<void*>(context));
    ++shared.bodies;
    if (thread != 0) {
      shared.begun = true;
      if (shared.slow) std::this_thread::sleep_for(milliseconds(50));
      return;
    }
    const auto begin = std::chrono::steady_clock::now();
    const auto took = [begin] { return std::chrono::steady_clock::now() - begin; };
    while (shared.slow && !shared.begun && took() < milliseconds(500)) std::this_thread::yield();
  };
  const auto count_bodies = [&](bool slow) {
    seen.slow = slow;
    seen.begun = false;
    seen.bodies = 0;
    pool->run(2, 1, body, &seen);
    return seen.bodies.load();
  };
  // On a busy machine any wait may be a long one: what has to come comes in some attempt.
  constexpr int kAttempts = 40;
  const auto shares_in_time = [&] {
    for (int i = 0; i < kAttempts; ++i) {
      if (count_bodies(false) == 2) return true;
      std::this_thread::sleep_for(milliseconds(350));
    }
    return false;
  };
  EDGEKIT_CHECK(shares_in_time(), "a loop is shared");
  // The other thread has to begin soon enough for the wait to be the longer part.
  int slow_loops = 0;
  while (slow_loops < kAttempts && count_bodies(true) == 2) ++slow_loops;
  EDGEKIT_CHECK(slow_loops < kAttempts, std::to_string(slow_loops) + " slow loops");
  EDGEKIT_CHECK(shares_in_time(), "and shares again later");
}

EDGEKIT_TEST(a_quota_counts_whole_cores) {
  const struct {
    const char* text;
    size_t cores;
  } cases[] = {
      {"max 100000\n", 0},
      {"200000 100000\n", 2},
      {"199999 100000\n", 1},
      {"1000 100000\n", 1},
      {"", 0},
      {"200000", 0},
      {"200000 ", 0},
      {"200000 0\n", 0},
      {"0 100000\n", 0},
      {"-1 100000\n", 0},
      {"99999999999999999999999 100000\n", 0},
  };
  for (const auto& one : cases) {
    const size_t cores = count_cores_in_quota(one.text);
    EDGEKIT_CHECK(cores == one.cores, std::string(one.text) + ": " + std::to_string(cores));
  }
}

EDGEKIT_TEST(threads_compute_each_unit_once) {
  // More threads than cores, so that pieces are taken over and threads go to sleep and wake.
  for (const size_t threads : {1u, 2u, 3u, 9u}) {
    const auto pool = make_pool(crowd(threads));
    struct Counts {
      std::vector<std::atomic<int>> units = std::vector<std::atomic<int>>(300);
      std::atomic<bool> wrong{false};
      size_t granule = 1;
    } counts;
    Random random(seed());
    for (int i = 0; i < 300; ++i) {
      const size_t units = random.size(0, counts.units.size());
      counts.granule = random.size(1, 40);
      for (auto& unit : counts.units) unit.store(0, std::memory_order_relaxed);
      const auto body = [](const void* context, size_t begin, size_t end, size_t /*thread*/) {
        auto& shared = *static_cast<Counts*>(const_cast<void*>(context));
        if (begin % shared.granule != 0) shared.wrong = true;
        for (size_t unit = begin; unit < end; ++unit) ++shared.units[unit];
      };
      pool->run(units, counts.granule, body, &counts);
      for (size_t unit = 0; unit < counts.units.size(); ++unit) {
        if (counts.units[unit] != (unit < units ? 1 : 0)) counts.wrong = true;
      }
    }
    EDGEKIT_CHECK(!counts.wrong, std::to_string(threads) + " threads");
  }
}

}  // namespace
}  // namespace edgekit::test
