#pragma once

#include <string>

#include "board/descriptor.h"
#include "board/manifest.h"

namespace edgekit::board {

/// The plan of a bundle, for a program that is started from here: the file itself, or where the
/// bundle has it locked, its content in memory that no file system holds.
class PlanFile {
 public:
  /// @param folder the bundle's.
  /// @param identity the file of the device's secret key; read only where the plan is locked.
  /// Returns false and sets `error` where the plan cannot be opened.
  bool open(const std::string& folder, const Manifest& manifest, const std::string& identity,
            std::string* error);

  /// What a program that is started from here opens.
  const std::string& path() const { return path_; }

 private:
  Descriptor memory_{-1};
  std::string path_;
};

/// The file of a device's secret key, in its root folder.
inline constexpr char kIdentity[] = "/identity";

/// Writes a bundle's locked plan in the clear to the file `to`, which belongs on a file system in
/// memory: for a service that may not read the device's secret. Only the owner of the folder that
/// `to` lies in can read it.
bool unlock_plan(const std::string& folder, const Manifest& manifest, const std::string& identity,
                 const std::string& to, std::string* error);

/// Makes the file of a device's secret key, which only its owner can read, unless it is there; sets
/// `recipient` to the public key that bundles are locked for.
bool make_identity(const std::string& path, std::string* recipient, std::string* error);

}  // namespace edgekit::board
