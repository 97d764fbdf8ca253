#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace edgekit {

/// Writes one JSON value (RFC 8259) piece by piece, indented by two spaces.
///
///   JsonWriter json;
///   json.begin_object();
///   json.key("threads").number(2);
///   json.end_object();
class JsonWriter {
 public:
  void begin_object() { begin('{', '}'); }
  void end_object() { end(); }
  void begin_array() { begin('[', ']'); }
  void end_array() { end(); }

  /// Names the next value of an object.
  JsonWriter& key(const char* name);

  /// `value` is UTF-8.
  void text(const std::string& value);
  void number(uint64_t value);
  void number(int64_t value);
  /// Nine significant digits, which tell it from any other float32; null when it is not finite.
  void number(float value);
  /// Six significant digits; null when it is not finite.
  void number(double value);
  void boolean(bool value);

  /// Returns what was written, a newline at its end.
  std::string finish() { return text_ + "\n"; }

 private:
  void begin(char open, char close);
  void end();
  void next();
  void print(double value, int digits);
  void quote(const std::string& value);

  struct Level {
    char close;
    bool empty;
  };

  std::string text_;
  std::vector<Level> levels_;
  bool after_key_ = false;
};

}  // namespace edgekit
