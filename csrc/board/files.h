#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace edgekit::board {

// Files of a device that may lose its power at any time. Where a function returns false it set
// `error`, which names the path.

/// Reads a regular file of at most `most` bytes.
bool read_file(const std::string& path, size_t most, std::string* content, std::string* error);

/// Replaces a file in one step: after a power cut it holds what it held before or all of `content`,
/// and after this returned true it holds `content`.
bool replace_file(const std::string& path, std::string_view content, std::string* error);

/// Makes what a folder lists survive a power cut: files that were made in it, renamed or removed.
bool sync_folder(const std::string& path, std::string* error);

/// Makes a folder and those above it that are missing.
bool make_folders(const std::string& path, std::string* error);

/// Removes a file or a folder with all that it holds; links are removed, not followed. That nothing
/// is there is no error.
bool remove_all(const std::string& path, std::string* error);

/// Lists the regular files under `folder`, with slashes, sorted. Returns false where it holds
/// anything else than files and folders.
bool list_files(const std::string& folder, std::vector<std::string>* files, std::string* error);

/// Returns the size of a regular file, or -1 where there is none at `path`; links are not followed.
int64_t file_size(const std::string& path);

/// Sets `hex` to the SHA-256 of a regular file, in hexadecimal.
bool digest_file(const std::string& path, std::string* hex, std::string* error);

/// Returns whether there is a regular file of this size and SHA-256, in hexadecimal, at `path`.
bool is_whole(const std::string& path, uint64_t size, const std::string& sha256);

/// Returns whether `path` still names the file that `descriptor` is open for.
bool names_file(const std::string& path, int descriptor);

/// Copies a file; what is written is on the disk when this returns true.
bool copy_file(const std::string& from, const std::string& to, std::string* error);

/// Returns `folder`/`name`.
std::string join_path(const std::string& folder, std::string_view name);

/// Returns the folder of a path; "." for a bare name.
std::string parent(const std::string& path);

}  // namespace edgekit::board
