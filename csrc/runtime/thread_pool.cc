#include "runtime/thread_pool.h"

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cstring>

#include "runtime/usable_cores.h"

namespace edgekit {
namespace {

constexpr int64_t kSpinNanoseconds = 50'000;

// From then on a spinning thread offers its core to others before it looks again: one of them may
// hold the piece that it waits for.
constexpr int64_t kSelfishNanoseconds = 5'000;

// A caller that waits longer than this, and longer than its own pieces took, is not waiting for
// work but for a core.
constexpr int64_t kLongWait = 300'000;

// How long it then works alone: doubled each time that it happens again soon after.
constexpr int64_t kLeastAlone = 10'000'000;
constexpr int64_t kMostAlone = 320'000'000;
constexpr int64_t kSoon = 50'000'000;

struct Ticket {
  uint32_t loop;
  uint16_t pieces;
  uint16_t next;
};

constexpr uint64_t pack(Ticket t) {
  return uint64_t{t.loop} << 32 | uint64_t{t.pieces} << 16 | uint64_t{t.next};
}

constexpr Ticket unpack(uint64_t word) {
  return {static_cast<uint32_t>(word >> 32), static_cast<uint16_t>(word >> 16),
          static_cast<uint16_t>(word)};
}

int64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Returns how many of the threads have a core to run on.
size_t count_running(const Threads& threads) {
  const size_t cores =
      threads.cores.empty() ? count_usable_cores(threads.count) : threads.cores.size();
  return std::min(threads.count, cores);
}

// Returns "", or why the thread runs where it did.
std::string pin_thread(pthread_t thread, uint32_t core) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (core < CPU_SETSIZE) CPU_SET(core, &mask);
  const int code = pthread_setaffinity_np(thread, sizeof mask, &mask);
  if (code == 0) return "";
  return "no thread can be pinned to core " + std::to_string(core) + ": " + std::strerror(code);
}

}  // namespace

std::string pin_this_thread(uint32_t core) { return pin_thread(pthread_self(), core); }

std::unique_ptr<ThreadPool> ThreadPool::create(const Threads& threads, std::string* error) {
  if (threads.count < 1 || threads.count > kMaxThreads) {
    *error = "a session takes 1 to " + std::to_string(kMaxThreads) + " threads, not " +
             std::to_string(threads.count);
    return nullptr;
  }
  const size_t size = count_running(threads);
  std::unique_ptr<ThreadPool> pool(new ThreadPool(size));
  pool->pinned_ = !threads.cores.empty();
  struct Start {
    ThreadPool* pool;
    size_t thread;
  };
  pool->threads_.reserve(size - 1);
  for (size_t thread = 1; thread < size; ++thread) {
    const auto main = [](void* argument) -> void* {
      const std::unique_ptr<Start> start(static_cast<Start*>(argument));
      start->pool->work(start->thread);
      return nullptr;
    };
    auto start = std::make_unique<Start>(Start{pool.get(), thread});
    pthread_t id;
    if (const int code = pthread_create(&id, nullptr, main, start.get()); code != 0) {
      *error = "cannot start thread " + std::to_string(thread + 1) + " of " + std::to_string(size) +
               ": " + std::strerror(code);
      return nullptr;
    }
    // The thread owns it now.
    // NOLINTNEXTLINE(bugprone-unused-return-value)
    start.release();
    pool->threads_.push_back(id);
    if (threads.cores.empty()) continue;
    const std::string problem = pin_thread(id, threads.cores[thread]);
    if (pool->pinning_problem_.empty()) pool->pinning_problem_ = problem;
  }
  return pool;
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  pthread_mutex_lock(&mutex_);
  pthread_cond_broadcast(&loop_ready_);
  pthread_mutex_unlock(&mutex_);
  for (const pthread_t id : threads_) pthread_join(id, nullptr);
  pthread_cond_destroy(&loop_done_);
  pthread_cond_destroy(&loop_ready_);
  pthread_mutex_destroy(&mutex_);
}

void ThreadPool::run(size_t units, size_t granule, Body body, const void* context) {
  if (units == 0) return;
  const size_t granules = (units + granule - 1) / granule;
  const size_t step = (granules + size_ - 1) / size_ * granule;
  const size_t pieces = (units + step - 1) / step;
  if (pieces == 1) {
    body(context, 0, units, 0);
    return;
  }
  const int64_t begin = now();
  if (begin < alone_until_) {
    body(context, 0, units, 0);
    return;
  }
  loop_ = {units, step, body, context};
  unfinished_.store(pieces - 1, std::memory_order_relaxed);
  const uint32_t number = unpack(ticket_.load(std::memory_order_relaxed)).loop + 1;
  // Sequentially consistent against sleepers_: either this sees the sleeper or the sleeper sees the
  // loop.
  ticket_.store(pack({number, static_cast<uint16_t>(pieces), 1}));
  if (sleepers_.load() > 0) {
    keep_off_this_core();
    pthread_mutex_lock(&mutex_);
    pthread_cond_broadcast(&loop_ready_);
    pthread_mutex_unlock(&mutex_);
  }
  body(context, 0, step, 0);
  while (take_piece(0)) {
  }
  const int64_t waited_from = now();
  wait_for_pieces();
  note_wait(begin, waited_from, now());
}

// Decides whether the next loops are worth sharing.
void ThreadPool::note_wait(int64_t begin, int64_t waited_from, int64_t end) {
  const int64_t waited = end - waited_from;
  if (waited < kLongWait || waited < waited_from - begin) return;
  const bool again = begin - alone_until_ < kSoon;
  alone_for_ = again ? std::min(2 * alone_for_, kMostAlone) : kLeastAlone;
  alone_until_ = end + alone_for_;
}

// Linux takes a halted virtual core for one that is not to be had, and puts a thread that is woken
// behind the one that wakes it. Affinity is the only word against it. The calling thread moves as
// the system likes, and seldom.
void ThreadPool::keep_off_this_core() {
  const int core = sched_getcpu();
  if (pinned_ || core < 0 || core == avoided_core_) return;
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return;
  CPU_CLR(static_cast<size_t>(core), &mask);
  if (CPU_COUNT(&mask) == 0) return;
  for (const pthread_t thread : threads_) pthread_setaffinity_np(thread, sizeof mask, &mask);
  avoided_core_ = core;
}

// Takes one piece of the current loop, if there is one left, and runs it. While a taken piece is
// unfinished run() can't return, so loop_ doesn't change; a thread that read an old ticket fails to
// exchange it.
bool ThreadPool::take_piece(size_t thread) {
  uint64_t word = ticket_.load(std::memory_order_acquire);
  Ticket ticket;
  do {
    ticket = unpack(word);
    if (ticket.next >= ticket.pieces) return false;
  } while (!ticket_.compare_exchange_weak(
      word, pack({ticket.loop, ticket.pieces, static_cast<uint16_t>(ticket.next + 1)}),
      std::memory_order_acquire));
  const size_t begin = ticket.next * loop_.step;
  loop_.body(loop_.context, begin, std::min(begin + loop_.step, loop_.units), thread);
  // Sequentially consistent against caller_sleeps_, as in run().
  if (unfinished_.fetch_sub(1) == 1 && caller_sleeps_.load()) {
    pthread_mutex_lock(&mutex_);
    pthread_cond_signal(&loop_done_);
    pthread_mutex_unlock(&mutex_);
  }
  return true;
}

void ThreadPool::work(size_t thread) {
  while (!stop_.load()) {
    if (!take_piece(thread)) wait_for_loop();
  }
}

// Returns whether `done` came true before the time to spin was over.
template <typename Done>
bool ThreadPool::spin_until(const Done& done) {
  const int64_t begin = now();
  int64_t spun = 0;
  do {
    for (int i = 0; i < 64; ++i) {
      if (done()) return true;
      pause();
    }
    if (spun > kSelfishNanoseconds) sched_yield();
    spun = now() - begin;
  } while (spun < kSpinNanoseconds);
  return false;
}

void ThreadPool::wait_for_loop() {
  const auto ready = [this] {
    const Ticket ticket = unpack(ticket_.load());
    return ticket.next < ticket.pieces || stop_.load();
  };
  if (spin_until(ready)) return;
  pthread_mutex_lock(&mutex_);
  sleepers_.fetch_add(1);
  while (!ready()) pthread_cond_wait(&loop_ready_, &mutex_);
  sleepers_.fetch_sub(1);
  pthread_mutex_unlock(&mutex_);
}

void ThreadPool::wait_for_pieces() {
  const auto done = [this] { return unfinished_.load() == 0; };
  if (spin_until(done)) return;
  pthread_mutex_lock(&mutex_);
  caller_sleeps_.store(true);
  while (!done()) pthread_cond_wait(&loop_done_, &mutex_);
  caller_sleeps_.store(false);
  pthread_mutex_unlock(&mutex_);
}

}  // namespace edgekit
