#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace edgekit {

/// How many threads share the work, and where they run.
struct Threads {
  /// At least 1, the caller's included. No more of them run than there are cores for them: a thread
  /// without a core of its own only keeps others from working.
  size_t count = 1;
  /// Where threads run: thread t on cores[t], and no more threads than are listed. Thread 0 is the
  /// caller's, and the caller's own to pin. Empty: where the system puts them, and no more of them
  /// than count_usable_cores().
  std::vector<uint32_t> cores = {};
};

/// Pins the calling thread to a core. Returns "", or why it runs where it did.
std::string pin_this_thread(uint32_t core);

/// Threads that share one loop at a time; the caller is one of them.
///
/// A loop is cut into as many pieces as there are threads, decided before it starts. The caller
/// takes the first piece and then any that no other thread has begun, so a machine with too few
/// free cores loses little. A thread without work spins for about 50 us, since waking it costs 17,
/// and then sleeps. Where a begun piece is long in coming, since another program has its core, the
/// caller works alone for a while, the longer the more often that happens. A thread that is woken
/// is kept off the caller's core, where a virtual machine whose other cores are halted may leave it
/// waiting for milliseconds. Nothing is allocated after create().
class ThreadPool {
 public:
  /// The body of a loop: computes the units [begin, end). `thread` in [0, size()) is the executing
  /// thread's number, the caller's being 0; no two bodies run on one number at once.
  using Body = void (*)(const void* context, size_t begin, size_t end, size_t thread);

  /// The most threads that a pool may have.
  static constexpr size_t kMaxThreads = 1024;

  /// Starts all threads but the caller's. Returns null and sets `error` when there are none to be
  /// had. Where one can't be pinned it runs all the same, see pinning_problem().
  static std::unique_ptr<ThreadPool> create(const Threads& threads, std::string* error);

  /// Ends the threads; no loop may be running.
  ~ThreadPool();

  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  /// Returns the number of threads that run, the caller's included: no more than were asked for.
  size_t size() const { return size_; }

  /// Returns which thread could not be pinned, and why, or "".
  const std::string& pinning_problem() const { return pinning_problem_; }

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

  explicit ThreadPool(size_t size) : size_(size) {}

  void keep_off_this_core();
  void note_wait(int64_t begin, int64_t waited_from, int64_t end);
  void work(size_t thread);
  bool take_piece(size_t thread);
  void wait_for_loop();
  void wait_for_pieces();
  template <typename Done>
  static bool spin_until(const Done& done);

  const size_t size_;
  std::vector<pthread_t> threads_;
  std::string pinning_problem_;
  /// Whether threads are pinned; otherwise where they run is narrowed to all but the caller's core.
  bool pinned_ = false;
  /// The core that threads last were kept off, -1 at first.
  int avoided_core_ = -1;

  // Until when the caller works alone, and for how long it last chose to: the caller's own.
  int64_t alone_until_ = 0;
  int64_t alone_for_ = 0;

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
