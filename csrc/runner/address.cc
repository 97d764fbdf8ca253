#include "runner/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace edgekit::runner {
namespace {

constexpr int kBacklog = 64;
constexpr std::string_view kTcp = "tcp:";
constexpr std::string_view kUnix = "unix:";

bool parse_port(const char* text, uint16_t* port) {
  char* end;
  const unsigned long number = std::strtoul(text, &end, 10);
  *port = htons(static_cast<uint16_t>(number));
  return *text >= '0' && *text <= '9' && *end == 0 && number <= UINT16_MAX;
}

bool make_tcp_address(std::string host, uint16_t port, Address* address) {
  if (host == "localhost") host = "127.0.0.1";
  if (host == "*") host = "0.0.0.0";
  auto* const v4 = reinterpret_cast<sockaddr_in*>(&address->storage);
  auto* const v6 = reinterpret_cast<sockaddr_in6*>(&address->storage);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = port;
    address->size = sizeof *v6;
    host.back() = 0;
    return inet_pton(AF_INET6, host.c_str() + 1, &v6->sin6_addr) == 1;
  }
  v4->sin_family = AF_INET;
  v4->sin_port = port;
  address->size = sizeof *v4;
  return inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1;
}

// Removes the file of a unix socket at which nobody listens any more.
bool clear_path(const Address& address, std::string* error) {
  struct stat status;
  if (lstat(address.path.c_str(), &status) != 0) return true;
  if (!S_ISSOCK(status.st_mode)) {
    *error = "exists and is no socket: choose another path, or remove it";
    return false;
  }
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const bool dead = connect(probe, address.get(), address.size) != 0 && errno == ECONNREFUSED;
  close(probe);
  if (dead) {
    unlink(address.path.c_str());
    return true;
  }
  *error = "another server listens there";
  return false;
}

}  // namespace

bool make_unix_address(const std::string& path, Address* address, std::string* error) {
  auto* const local = reinterpret_cast<sockaddr_un*>(&address->storage);
  if (path.empty() || path.size() >= sizeof local->sun_path) {
    *error = "the path of a unix socket has 1 to 107 bytes";
    return false;
  }
  local->sun_family = AF_UNIX;
  std::memcpy(local->sun_path, path.c_str(), path.size() + 1);
  address->size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  if (path[0] == '@') {
    local->sun_path[0] = '\0';
    --address->size;
  } else {
    address->path = path;
  }
  return true;
}

bool parse_address(const std::string& text, Address* address, std::string* error) {
  if (text.compare(0, kUnix.size(), kUnix) == 0) {
    return make_unix_address(text.substr(kUnix.size()), address, error);
  }
  const size_t colon = text.rfind(':');
  uint16_t port;
  if (text.compare(0, kTcp.size(), kTcp) == 0 && colon > kTcp.size() &&
      parse_port(text.c_str() + colon + 1, &port) &&
      make_tcp_address(text.substr(kTcp.size(), colon - kTcp.size()), port, address)) {
    return true;
  }
  *error = "takes unix:/path or tcp:host:port, the host in numbers, as in tcp:192.168.1.7:7070";
  return false;
}

int listen_at(const Address& address, std::string* error) {
  if (!address.path.empty() && !clear_path(address, error)) return -1;
  const int family = address.storage.ss_family;
  const int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int on = 1;
  if (listener >= 0) setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (listener >= 0 && bind(listener, address.get(), address.size) == 0 &&
      listen(listener, kBacklog) == 0) {
    return listener;
  }
  *error = std::string("cannot listen there: ") + std::strerror(errno);
  if (listener >= 0) close(listener);
  return -1;
}

std::string name_listener(int socket, const std::string& text) {
  if (text.compare(0, kTcp.size(), kTcp) != 0) return text;
  Address bound;
  bound.size = sizeof bound.storage;
  getsockname(socket, bound.get(), &bound.size);
  // The port lies at the same place in both families.
  const auto* const v4 = reinterpret_cast<const sockaddr_in*>(&bound.storage);
  return text.substr(0, text.rfind(':') + 1) + std::to_string(ntohs(v4->sin_port));
}

}  // namespace edgekit::runner
