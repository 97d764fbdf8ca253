#pragma once

#include <poll.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runner/address.h"
#include "runner/client.h"
#include "runner/next.h"
#include "runner/notify.h"
#include "runner/options.h"
#include "runtime/session.h"

namespace edgekit::runner {

/// Serves a plan in one loop around poll(): listening, the clock and the end are in serve.cc, what
/// a connection does is in requests.cc.
class Server {
 public:
  Server(Session* session, const Plan& plan, const Options& options)
      : session_(session),
        plan_(plan),
        timeout_(static_cast<double>(options.timeout)),
        forwards_(!options.next.empty()) {}

  bool start(const Options& options, std::string* error);
  void loop();

 private:
  bool make_hellos(const Options& options, std::string* error);
  bool make_room(size_t clients, std::string* error);
  void accept_client();
  Client* find_room();
  void begin(Client* client, int socket);
  void end(Client* client);
  void advance(Client* client);
  bool receive(Client* client, uint8_t* to);
  void take_header(Client* client);
  void run(Client* client);
  void answer(Client* client);
  void send_bytes(Client* client, const uint8_t* bytes, size_t size);
  void go_on_sending(Client* client);
  void wait_for_header(Client* client);
  void refuse(Client* client, FrameError error, const char* why, bool is_last = true);
  void expire(Client* client);
  void stop();
  double next_event() const;

  Session* const session_;
  const Plan& plan_;
  const double timeout_;
  Notifier notifier_;
  Address address_;
  int listener_ = -1;
  int stop_ = -1;
  double accept_after_ = 0;
  bool stopping_ = false;
  std::vector<uint8_t> hello_;
  /// Where outputs go on to, if anywhere, and the frame that they go in.
  bool forwards_ = false;
  Next next_;
  AlignedBytes forward_;
  /// Of each size of the plan; and the most of all sizes.
  std::vector<size_t> request_sizes_;
  size_t most_request_ = 0;
  size_t most_result_ = 0;
  AlignedBytes room_;
  std::vector<Client> clients_;
  std::unique_ptr<pollfd[]> polled_;
  std::unique_ptr<const void*[]> inputs_;
  std::unique_ptr<void*[]> outputs_;
};

}  // namespace edgekit::runner
