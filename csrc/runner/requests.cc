#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runner/clock.h"
#include "runner/frame.h"
#include "runner/server.h"

namespace edgekit::runner {
namespace {

// How long a client that was told of an error may go on sending before the connection is reset.
constexpr double kDrainSeconds = 1;

}  // namespace

void Server::begin(Client* client, int socket) {
  const int on = 1;
  // These fail for a unix socket, which needs neither.
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  client->socket = socket;
  client->is_last = false;
  send_bytes(client, hello_.data(), hello_.size());
}

void Server::end(Client* client) {
  close(client->socket);
  client->socket = -1;
  client->phase = Client::Phase::kFree;
  client->deadline = kNever;
}

void Server::wait_for_header(Client* client) {
  client->phase = Client::Phase::kHeader;
  client->done = 0;
  client->goal = kFrameHeaderSize;
  client->deadline = kNever;
  client->idle_since = now();
}

void Server::send_bytes(Client* client, const uint8_t* bytes, size_t size) {
  client->phase = Client::Phase::kAnswer;
  client->bytes = bytes;
  client->done = 0;
  client->goal = size;
  client->deadline = now() + timeout_;
  go_on_sending(client);
}

void Server::go_on_sending(Client* client) {
  while (client->done < client->goal) {
    const ssize_t count = send(client->socket, client->bytes + client->done,
                               client->goal - client->done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count < 0) return end(client);
    client->done += static_cast<size_t>(count);
  }
  if (!client->is_last && !stopping_) return wait_for_header(client);
  shutdown(client->socket, SHUT_WR);
  client->phase = Client::Phase::kDrain;
  client->deadline = now() + kDrainSeconds;
}

void Server::refuse(Client* client, FrameError error, const char* why, bool is_last) {
  const size_t words = std::min(std::strlen(why), kMostError - 4);
  uint8_t* const frame = client->answer - kFrameHeaderSize;
  write_frame_header(
      {FrameKind::kError, 0, client->frame.request, static_cast<uint32_t>(4 + words)}, frame);
  write_u32(static_cast<uint32_t>(error), client->answer);
  std::memcpy(client->answer + 4, why, words);
  client->is_last = is_last;
  send_bytes(client, frame, kFrameHeaderSize + 4 + words);
}

// Reads what there is of the phase's bytes; returns whether they are complete.
bool Server::receive(Client* client, uint8_t* to) {
  while (client->done < client->goal) {
    const ssize_t count =
        recv(client->socket, to + client->done, client->goal - client->done, MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return false;
    if (count <= 0) {
      end(client);
      return false;
    }
    // A request's time begins with its first byte.
    if (client->is_idle()) client->deadline = now() + timeout_;
    client->done += static_cast<size_t>(count);
  }
  return true;
}

void Server::take_header(Client* client) {
  client->frame.request = 0;
  FrameHeader frame;
  if (!read_frame_header(client->header, &frame)) {
    return refuse(client, FrameError::kMalformed, "not a frame of this protocol's version 1");
  }
  client->frame = frame;
  if (frame.kind != FrameKind::kRun) {
    return refuse(client, FrameError::kMalformed, "a server takes frames of the kind RUN");
  }
  if (frame.size >= request_sizes_.size()) {
    return refuse(client, FrameError::kMalformed, "the plan has no size of that number");
  }
  if (frame.length != request_sizes_[frame.size]) {
    return refuse(client, FrameError::kMalformed,
                  "the length is not that of the inputs: compare HELLO");
  }
  client->phase = Client::Phase::kPayload;
  client->done = 0;
  client->goal = frame.length;
}

void Server::advance(Client* client) {
  if (client->phase == Client::Phase::kAnswer) return go_on_sending(client);
  if (client->phase == Client::Phase::kDrain) {
    const ssize_t count = recv(client->socket, client->request, kMostError, MSG_DONTWAIT);
    if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) end(client);
    return;
  }
  if (client->phase == Client::Phase::kHeader) {
    if (receive(client, client->header)) take_header(client);
  }
  if (client->phase == Client::Phase::kPayload && receive(client, client->request)) {
    run(client);
    answer(client);
  }
}

// Sends the outputs, or what the next server makes of them.
void Server::answer(Client* client) {
  auto length = static_cast<uint32_t>(payload_size(plan_.size(client->frame.size).outputs()));
  if (forwards_) {
    uint8_t* const frame = forward_.get() + kAlignment - kFrameHeaderSize;
    write_frame_header({FrameKind::kRun, client->frame.size, client->frame.request, length}, frame);
    std::string why;
    const int64_t result = next_.ask(frame, kFrameHeaderSize + length, client->answer, &why);
    if (result < 0) return refuse(client, FrameError::kNext, why.c_str(), false);
    length = static_cast<uint32_t>(result);
  }
  uint8_t* const frame = client->answer - kFrameHeaderSize;
  write_frame_header({FrameKind::kResult, client->frame.size, client->frame.request, length},
                     frame);
  send_bytes(client, frame, kFrameHeaderSize + length);
}

// Runs the network on a request; its outputs are where the payload of the frame belongs that they
// go in.
void Server::run(Client* client) {
  uint8_t* const outputs = forwards_ ? forward_.get() + kAlignment : client->answer;
  const Plan& size = plan_.size(client->frame.size);
  size_t offset = 0;
  for (size_t i = 0; i < size.inputs().size(); ++i) {
    inputs_[i] = client->request + offset;
    offset = align_in_frame(offset + size.inputs()[i].size);
  }
  offset = 0;
  for (size_t i = 0; i < size.outputs().size(); ++i) {
    outputs_[i] = outputs + offset;
    const size_t end = offset + size.outputs()[i].size;
    offset = align_in_frame(end);
    std::memset(outputs + end, 0, offset - end);
  }
  session_->set_size(client->frame.size);
  session_->run(inputs_.get(), outputs_.get(), 1);
}

void Server::expire(Client* client) {
  switch (client->phase) {
    case Client::Phase::kHeader:
    case Client::Phase::kPayload:
      return refuse(client, FrameError::kTooSlow, "the request took too long to arrive");
    default:
      return end(client);
  }
}

}  // namespace edgekit::runner
