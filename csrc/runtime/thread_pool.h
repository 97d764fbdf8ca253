#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace edgekit {

/// Threads that share one loop at a time; the caller is one of them.
///
/// A loop is cut into as many pieces as there are threads, decided before it starts. The caller
/// takes the first piece and then any that no other thread has begun, so a machine with too few
/// free cores loses little. A thread without work spins for about 50 us, since waking it costs 17,
/// and then sleeps. Nothing is allocated after create().
class ThreadPool {
 public:
  /// The body of a loop: computes the units [begin, end). `thread` in [0, size()) is the executing
  /// thread's number, the caller's being 0; no two bodies run on one number at once.
  using Body = void (*)(const void* context, size_t begin, size_t end, size_t thread);

  /// The most threads that a pool may have.
  static constexpr size_t kMaxThreads = 1024;

  /// Starts `threads - 1` threads. Returns null and sets `error` when there are none to be had.
  static std::unique_ptr<ThreadPool> create(size_t threads, std::string* error);

  /// Ends the threads; no loop may be running.
  ~ThreadPool();

  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  /// Returns the number of threads, the caller's included.
  size_t size() const { return size_; }

  /// Runs `body` over [0, units), the ends of its pieces being multiples of `granule` or `units`,
  /// and returns when all of it is done. Only one thread may call this at a time.
  void run(size_t units, size_t granule, Body body, const void* context);

 private:
  struct Loop {
    size_t units;
    size_t step;
    Body body;
    const void* context;
  };

  explicit ThreadPool(size_t size);

  void work(size_t thread);
  bool take_piece(size_t thread);
  void wait_for_loop();
  void wait_for_pieces();
  template <typename Done>
  bool spin_until(const Done& done) const;

  const size_t size_;
  /// Whether there are more threads than cores, so that one that spins keeps another from working.
  const bool crowded_;
  std::vector<pthread_t> threads_;

  // Written before ticket_ announces it, read by whoever has taken a piece.
  Loop loop_ = {};

  // Loop number, pieces and the next piece to take in one word, so that a thread can't take a piece
  // of a loop that it didn't mean: see take_piece().
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<size_t> unfinished_{0};
  std::atomic<size_t> sleepers_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> stop_{false};

  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t loop_ready_ = PTHREAD_COND_INITIALIZER;
  pthread_cond_t loop_done_ = PTHREAD_COND_INITIALIZER;
};

}  // namespace edgekit
