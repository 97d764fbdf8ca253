#include "json/json_writer.h"

#include <cmath>
#include <cstdio>

namespace edgekit {

// Moves to where the next key or value belongs.
void JsonWriter::next() {
  if (after_key_) {
    after_key_ = false;
    return;
  }
  if (levels_.empty()) return;
  if (!levels_.back().empty) text_ += ',';
  levels_.back().empty = false;
  text_ += '\n' + std::string(2 * levels_.size(), ' ');
}

void JsonWriter::begin(char open, char close) {
  next();
  text_ += open;
  levels_.push_back({close, true});
}

void JsonWriter::end() {
  const Level level = levels_.back();
  levels_.pop_back();
  if (!level.empty) text_ += '\n' + std::string(2 * levels_.size(), ' ');
  text_ += level.close;
}

JsonWriter& JsonWriter::key(const char* name) {
  next();
  quote(name);
  text_ += ": ";
  after_key_ = true;
  return *this;
}

void JsonWriter::text(const std::string& value) {
  next();
  quote(value);
}

void JsonWriter::number(uint64_t value) {
  next();
  text_ += std::to_string(value);
}

void JsonWriter::number(int64_t value) {
  next();
  text_ += std::to_string(value);
}

void JsonWriter::number(float value) { print(value, 9); }

void JsonWriter::number(double value) { print(value, 6); }

void JsonWriter::print(double value, int digits) {
  next();
  char buffer[32] = "null";
  if (std::isfinite(value)) std::snprintf(buffer, sizeof buffer, "%.*g", digits, value);
  text_ += buffer;
}

void JsonWriter::boolean(bool value) {
  next();
  text_ += value ? "true" : "false";
}

void JsonWriter::quote(const std::string& value) {
  text_ += '"';
  for (const char c : value) {
    if (c == '"' || c == '\\') {
      text_ += '\\';
      text_ += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char buffer[8];
      std::snprintf(buffer, sizeof buffer, "\\u%04x", static_cast<unsigned>(c));
      text_ += buffer;
    } else {
      text_ += c;
    }
  }
  text_ += '"';
}

}  // namespace edgekit
