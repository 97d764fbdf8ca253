#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace edgekit {

/// A JSON value (RFC 8259) as it was read.
struct JsonValue {
  enum class Kind : uint8_t { kNull, kBoolean, kNumber, kText, kArray, kObject };

  Kind kind = Kind::kNull;
  /// Of a text its UTF-8, of a number its digits as they stood, of a boolean "true" or "false".
  std::string text;
  /// An array's values, or an object's, in the order of `keys`.
  std::vector<JsonValue> values;
  /// An object's keys in the order of the file; no key stands twice.
  std::vector<std::string> keys;

  /// Returns an object's value of this key, or null where this is no object or has no such key.
  const JsonValue* find(std::string_view key) const;

  /// Returns an object's text of this key, or null where it has no text of that key.
  const std::string* find_text(std::string_view key) const;

  /// Sets `value` to an object's number of this key; returns false where it has none, or one that
  /// is not written as a whole number from 0 to 2^63 - 1 in digits alone.
  bool find_count(std::string_view key, uint64_t* value) const;
};

/// Reads one JSON value and nothing behind it but white space.
///
/// Stricter than RFC 8259 asks: a key stands once in an object, texts are valid UTF-8 without
/// escaped lone surrogates or U+0000, and nothing is nested more than 32 deep. Returns false and
/// sets `error`, with the offset in bytes, for anything else.
bool read_json(std::string_view text, JsonValue* value, std::string* error);

}  // namespace edgekit
