#include "runner/serve.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "runner/clock.h"
#include "runner/frame.h"
#include "runner/server.h"
#include "runner/stop_signal.h"
#include "trust/sha256.h"

namespace edgekit::runner {
namespace {

// Longer requests and answers than this are refused when a server starts.
constexpr size_t kMostPayload = size_t{1} << 30;
constexpr size_t kMostClients = 1024;
// How long results may still be taken after SIGTERM.
constexpr double kStopSeconds = 5;
// How long no connection is accepted after none could be, for want of descriptors or memory.
constexpr double kAcceptPause = 0.1;

}  // namespace

// Finds out how long frames get, and what clients are told.
bool Server::make_hellos(const Options& options, std::string* error) {
  for (size_t i = 0; i < plan_.size_count(); ++i) {
    request_sizes_.push_back(payload_size(plan_.size(i).inputs()));
    most_request_ = std::max(most_request_, request_sizes_.back());
    most_result_ = std::max(most_result_, payload_size(plan_.size(i).outputs()));
  }
  if (most_request_ > kMostPayload || most_result_ > kMostPayload ||
      plan_.size_count() > UINT16_MAX) {
    *error = "the plan's inputs or outputs are too large for a frame";
    return false;
  }
  if (forwards_) {
    Address address;
    const char* digest = nullptr;
    for (size_t i = 0; i < plan_.metadata_size(); ++i) {
      if (std::strcmp(plan_.metadata_key(i), "next") == 0) digest = plan_.metadata_value(i);
    }
    if (!parse_address(options.next, &address, error) ||
        !next_.open(address, timeout_, digest, most_result_, &notifier_, error)) {
      *error = options.next + ": " + *error;
      return false;
    }
    forward_ = make_aligned_bytes(kAlignment + most_result_);
    most_result_ = next_.result_size();
    if (forward_ == nullptr || most_result_ > kMostPayload) {
      *error = "no memory for what goes on to the next server";
      return false;
    }
  }
  char digest[65];
  Sha256 hash;
  hash.update(plan_.file_bytes(), plan_.file_size());
  hash.finish_hex(digest);
  hello_ = make_hello(
      plan_, {digest, static_cast<uint32_t>(most_request_), static_cast<uint32_t>(most_result_)},
      next_.hellos());
  return true;
}

bool Server::make_room(size_t clients, std::string* error) {
  clients_ = std::vector<Client>(clients);
  polled_.reset(new pollfd[clients + 2]);
  // A header ends where the aligned answer begins.
  const size_t request_room = align_up(std::max(most_request_, kMostError));
  const size_t each = request_room + kAlignment + align_up(std::max(most_result_, kMostError));
  // Pages that no client has used yet are not there.
  void* memory = nullptr;
  size_t bytes;
  if (__builtin_mul_overflow(each, clients, &bytes) ||
      posix_memalign(&memory, kAlignment, bytes) != 0) {
    *error = "no memory for requests: fewer --clients take less";
    return false;
  }
  room_.reset(static_cast<uint8_t*>(memory));
  for (size_t i = 0; i < clients; ++i) {
    clients_[i].request = room_.get() + i * each;
    clients_[i].answer = clients_[i].request + request_room + kAlignment;
  }
  inputs_.reset(new const void*[plan_.inputs().size()]);
  outputs_.reset(new void*[plan_.outputs().size()]);
  return true;
}

bool Server::start(const Options& options, std::string* error) {
  if (options.clients > kMostClients) {
    *error = "--clients takes at most 1024";
    return false;
  }
  if (!make_hellos(options, error) || !make_room(options.clients, error)) return false;
  // The self-test: a network that does not end or brings the program down is never announced.
  for (size_t i = 0; i < plan_.size_count(); ++i) {
    std::memset(clients_[0].request, 0, request_sizes_[i]);
    clients_[0].frame = {FrameKind::kRun, static_cast<uint16_t>(i), 0, 0};
    run(&clients_[0]);
  }
  if (parse_address(options.serve, &address_, error)) listener_ = listen_at(address_, error);
  if (listener_ < 0) {
    *error = options.serve + ": " + *error;
    return false;
  }
  stop_ = catch_stop_signals(error);
  if (stop_ < 0) return false;
  std::printf("serving at %s\n", name_listener(listener_, options.serve).c_str());
  std::fflush(stdout);
  notifier_.tell("READY=1");
  return true;
}

// Returns a place for one more client, or null. A connection that asked for nothing for as long as
// a request may take gives way: its other end may be gone without a word.
Client* Server::find_room() {
  Client* oldest = nullptr;
  for (Client& client : clients_) {
    if (client.phase == Client::Phase::kFree) return &client;
    if (client.is_idle() && (oldest == nullptr || client.idle_since < oldest->idle_since)) {
      oldest = &client;
    }
  }
  if (oldest == nullptr || now() - oldest->idle_since < timeout_) return nullptr;
  end(oldest);
  return oldest;
}

void Server::accept_client() {
  const int socket = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (socket < 0) {
    const bool passes = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
    if (!passes) accept_after_ = now() + kAcceptPause;
    return;
  }
  Client* const client = find_room();
  if (client != nullptr) {
    begin(client, socket);
    return;
  }
  // No bytes are kept for it: what its socket does not take at once is lost.
  constexpr char kWords[] = "all places are taken: try again later";
  uint8_t frame[kFrameHeaderSize + 4 + sizeof kWords];
  constexpr size_t kLength = 4 + sizeof kWords - 1;
  write_frame_header({FrameKind::kError, 0, 0, kLength}, frame);
  write_u32(static_cast<uint32_t>(FrameError::kBusy), frame + kFrameHeaderSize);
  std::memcpy(frame + kFrameHeaderSize + 4, kWords, sizeof kWords - 1);
  send(socket, frame, kFrameHeaderSize + kLength, MSG_NOSIGNAL | MSG_DONTWAIT);
  close(socket);
}

// From now on nothing new is taken; results that are on their way may still arrive.
void Server::stop() {
  notifier_.tell("STOPPING=1");
  stopping_ = true;
  close(listener_);
  listener_ = -1;
  if (!address_.path.empty()) unlink(address_.path.c_str());
  for (Client& client : clients_) {
    if (client.is_idle()) {
      end(&client);
    } else if (client.phase == Client::Phase::kHeader || client.phase == Client::Phase::kPayload) {
      refuse(&client, FrameError::kStopping, "the server stops");
    }
    client.deadline = std::min(client.deadline, now() + kStopSeconds);
  }
}

double Server::next_event() const {
  double next = now() + notifier_.seconds_left();
  for (const Client& client : clients_) next = std::min(next, client.deadline);
  if (accept_after_ > now()) next = std::min(next, accept_after_);
  return next;
}

void Server::loop() {
  while (true) {
    const bool accepts = !stopping_ && now() >= accept_after_;
    polled_[0] = {stop_, POLLIN, 0};
    polled_[1] = {accepts ? listener_ : -1, POLLIN, 0};
    bool busy = false;
    for (size_t i = 0; i < clients_.size(); ++i) {
      const bool sends = clients_[i].phase == Client::Phase::kAnswer;
      polled_[2 + i] = {clients_[i].socket, static_cast<short>(sends ? POLLOUT : POLLIN), 0};
      busy = busy || clients_[i].phase != Client::Phase::kFree;
    }
    if (stopping_ && !busy) return;
    // Rounded up, so that what is due then is due.
    const double wait = std::min(std::max(1e3 * (next_event() - now()) + 1, 0.0), 1e6);
    if (poll(polled_.get(), clients_.size() + 2, static_cast<int>(wait)) < 0) {
      // A signal interrupts, and the pipe tells which.
      for (size_t i = 0; i < clients_.size() + 2; ++i) polled_[i].revents = 0;
    }
    notifier_.keep_watchdog();
    if (polled_[0].revents != 0 && !stopping_) {
      stop();
      continue;
    }
    for (size_t i = 0; i < clients_.size(); ++i) {
      if (polled_[2 + i].revents != 0) advance(&clients_[i]);
      notifier_.keep_watchdog();
      if (now() >= clients_[i].deadline) expire(&clients_[i]);
    }
    // Last, since a new client may take the place of another, whose events these are.
    if (polled_[1].revents != 0) accept_client();
  }
}

bool serve(Session* session, const Plan& plan, const Options& options, std::string* error) {
  Server server(session, plan, options);
  if (!server.start(options, error)) return false;
  server.loop();
  return true;
}

}  // namespace edgekit::runner
