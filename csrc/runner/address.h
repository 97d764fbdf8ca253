#pragma once

#include <sys/socket.h>

#include <string>

namespace edgekit::runner {

/// Where a server listens.
struct Address {
  sockaddr_storage storage = {};
  socklen_t size = 0;
  /// The file of a unix socket, "" for any other.
  std::string path;

  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

/// Makes the address of a unix socket; one that begins with '@' is in Linux's abstract name space.
/// Returns false and sets `error` where the path is too long.
bool make_unix_address(const std::string& path, Address* address, std::string* error);

/// Reads "unix:/path" or "tcp:host:port", the host in numbers (an IPv6 one in brackets), localhost,
/// or * for all of this machine. Returns false and sets `error` for any other.
bool parse_address(const std::string& text, Address* address, std::string* error);

/// Returns a socket that listens at `address` and does not block, or -1 and sets `error`. The file
/// that a unix socket of an ended server left behind is replaced, any other is not.
int listen_at(const Address& address, std::string* error);

/// Returns `text`, an address that `socket` listens at, with the port that it got for 0.
std::string name_listener(int socket, const std::string& text);

}  // namespace edgekit::runner
