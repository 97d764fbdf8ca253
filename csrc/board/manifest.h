#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace edgekit::board {

inline constexpr char kManifest[] = "manifest.json";
inline constexpr char kSignature[] = "manifest.json.minisig";
inline constexpr char kPlan[] = "model.plan";
/// The plan where it is locked for devices' keys (trust/age.h).
inline constexpr char kLockedPlan[] = "model.plan.age";
inline constexpr char kRunner[] = "edgekit-run";
/// The program that keeps a device's bundles, which a bundle may bring a newer one of.
inline constexpr char kBoardProgram[] = "edgekit-board";
inline constexpr char kDigests[] = "golden/digests.json";
/// No manifest or signature is longer than this many bytes.
inline constexpr size_t kMostManifest = 1 << 20;

/// A file of a bundle.
struct BundleFile {
  std::string path;
  uint64_t size;
  /// SHA-256 in hexadecimal, lower case.
  std::string sha256;
};

/// A golden array: the tensor's name and its .npy file.
struct GoldenArray {
  std::string name;
  std::string file;
};

/// What the manifest of a bundle says that a board has to know; python/edgekit/bundles/bundle.py
/// writes it.
struct Manifest {
  /// The profile that the bundle was made for.
  std::string target;
  /// Which one comes after which; 0 where the manifest says nothing.
  uint64_t release = 0;
  /// The most that one run may take, in microseconds, and the most bytes of memory; 0: not said.
  uint64_t most_latency_us = 0;
  uint64_t most_memory = 0;
  std::vector<BundleFile> files;
  std::vector<GoldenArray> inputs;
  std::vector<GoldenArray> outputs;

  /// Returns the file of this path, or null.
  const BundleFile* find(std::string_view path) const;

  /// Returns the bytes of all files.
  uint64_t total() const;
};

/// Reads a manifest and checks all that is used of it: paths that stay in the folder and have one
/// spelling, sizes, digests, golden arrays that are listed. Returns false and sets `error` for any
/// other.
bool read_manifest(std::string_view text, Manifest* manifest, std::string* error);

/// Returns whether the bundle's file of this path is a program.
inline bool is_program(std::string_view path) { return path == kRunner || path == kBoardProgram; }

/// Returns whether a path stays inside its folder and has no other spelling: parts of UTF-8 without
/// controls and backslashes, none of them "", "." or "..", none longer than 255 bytes.
bool is_plain_path(std::string_view path);

}  // namespace edgekit::board
