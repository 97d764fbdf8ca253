#include "runner/next.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runner/clock.h"

namespace edgekit::runner {
namespace {

// A HELLO is no longer, and there are no more of them.
constexpr size_t kMostHello = size_t{1} << 20;
constexpr size_t kMostHellos = 8;
constexpr int kRetryMs = 100;

}  // namespace

Next::~Next() { close_socket(); }

void Next::close_socket() {
  if (socket_ >= 0) close(socket_);
  socket_ = -1;
}

// Sends or receives all of `size` bytes before the deadline.
bool Next::move(bool sends, uint8_t* data, size_t size, std::string* error) {
  while (size > 0) {
    const ssize_t count = sends ? send(socket_, data, size, MSG_NOSIGNAL | MSG_DONTWAIT)
                                : recv(socket_, data, size, MSG_DONTWAIT);
    if (count > 0) {
      data += count;
      size -= static_cast<size_t>(count);
      continue;
    }
    if (count == 0 || (errno != EAGAIN && errno != EINTR && errno != ENOTCONN)) {
      broken_ = true;
      *error = "the next server hung up";
      return false;
    }
    const double left = deadline_ - now();
    if (left <= 0) {
      *error = "the next server does not answer in time";
      return false;
    }
    notifier_->keep_watchdog();
    pollfd polled = {socket_, static_cast<short>(sends ? POLLOUT : POLLIN), 0};
    poll(&polled, 1, static_cast<int>(1e3 * std::min(left, notifier_->seconds_left())) + 1);
  }
  return true;
}

bool Next::connect_once(std::string* error) {
  close_socket();
  broken_ = false;
  socket_ = socket(address_.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int on = 1;
  setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(socket_, address_.get(), address_.size) == 0 || errno == EINPROGRESS) return true;
  *error = std::string("cannot connect to the next server: ") + std::strerror(errno);
  return false;
}

bool Next::read_hellos(std::vector<uint8_t>* hellos, std::string* error) {
  size_t count = 1;
  for (size_t i = 0; i < count; ++i) {
    const size_t begin = hellos->size();
    hellos->resize(begin + kFrameHeaderSize);
    if (!move(false, hellos->data() + begin, kFrameHeaderSize, error)) return false;
    FrameHeader header;
    if (!read_frame_header(hellos->data() + begin, &header) || header.kind != FrameKind::kHello ||
        header.length < kHelloPrefix || header.length > kMostHello ||
        header.size >= kMostHellos - i) {
      *error = "the next server sends no HELLO";
      return false;
    }
    count = i + 1 + header.size;
    hellos->resize(begin + kFrameHeaderSize + header.length);
    if (!move(false, hellos->data() + begin + kFrameHeaderSize, header.length, error)) return false;
  }
  return true;
}

bool Next::open(const Address& address, double seconds, const char* digest, size_t request_size,
                Notifier* notifier, std::string* error) {
  address_ = address;
  seconds_ = seconds;
  notifier_ = notifier;
  for (const double end = now() + seconds;; poll(nullptr, 0, kRetryMs)) {
    hellos_.clear();
    deadline_ = end;
    if (connect_once(error) && read_hellos(&hellos_, error)) break;
    if (now() >= end) return false;
  }
  const HelloPrefix prefix = read_hello_prefix(hellos_.data() + kFrameHeaderSize);
  if ((digest != nullptr && prefix.digest != digest) || prefix.request_size != request_size) {
    *error = "the next server serves a plan that this one was not made for";
    return false;
  }
  // The last one's results are what comes.
  result_size_ = prefix.result_size;
  return true;
}

int64_t Next::ask_once(const uint8_t* frame, size_t size, uint8_t* result, std::string* why) {
  deadline_ = now() + seconds_;
  if (socket_ < 0) {
    std::vector<uint8_t> hellos;
    broken_ = false;
    if (!connect_once(why) || !read_hellos(&hellos, why)) return -1;
    if (hellos != hellos_) {
      *why = "the next server serves something else now";
      return -1;
    }
  }
  uint8_t bytes[kFrameHeaderSize];
  FrameHeader header;
  if (!move(true, const_cast<uint8_t*>(frame), size, why) ||
      !move(false, bytes, sizeof bytes, why)) {
    return -1;
  }
  if (!read_frame_header(bytes, &header) || header.kind != FrameKind::kResult ||
      header.length > result_size_) {
    *why = "the next server refused";
    return -1;
  }
  return move(false, result, header.length, why) ? int64_t{header.length} : -1;
}

int64_t Next::ask(const uint8_t* frame, size_t size, uint8_t* result, std::string* why) {
  const bool is_old = socket_ >= 0;
  int64_t length = ask_once(frame, size, result, why);
  if (length < 0) close_socket();
  if (length < 0 && is_old && broken_) {
    length = ask_once(frame, size, result, why);
    if (length < 0) close_socket();
  }
  return length;
}

}  // namespace edgekit::runner
