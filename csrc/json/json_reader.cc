#include "json/json_reader.h"

#include <algorithm>

namespace edgekit {
namespace {

constexpr size_t kMostDepth = 32;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(uint32_t point, std::string* text) {
  const auto byte = [text](uint32_t value) { *text += static_cast<char>(value); };
  if (point < 0x80) {
    byte(point);
  } else if (point < 0x800) {
    byte(0xc0 | point >> 6);
    byte(0x80 | (point & 0x3f));
  } else if (point < 0x10000) {
    byte(0xe0 | point >> 12);
    byte(0x80 | (point >> 6 & 0x3f));
    byte(0x80 | (point & 0x3f));
  } else {
    byte(0xf0 | point >> 18);
    byte(0x80 | (point >> 12 & 0x3f));
    byte(0x80 | (point >> 6 & 0x3f));
    byte(0x80 | (point & 0x3f));
  }
}

// Returns the bytes of the UTF-8 sequence (RFC 3629) at the front of `text`, or 0 where there is
// none: too long for its value, a surrogate, beyond U+10FFFF, or cut.
size_t utf8_length(std::string_view text) {
  const auto at = [text](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = at(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if (at(i) >> 6 != 2) return 0;
  }
  const uint8_t second = at(1);
  const bool wrong = (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
                     (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f);
  return wrong ? 0 : length;
}

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  bool read(JsonValue* value, std::string* error) {
    const bool done = read_value(value, 0) && (skip_space(), at_ == text_.size());
    if (!done) *error = "not valid JSON at byte " + std::to_string(at_);
    return done;
  }

 private:
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool take(char c) {
    if (peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }

  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  void skip_space() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++at_;
  }

  bool read_value(JsonValue* value, size_t depth) {
    if (depth > kMostDepth) return false;
    skip_space();
    switch (peek()) {
      case '{':
        return read_members(value, depth);
      case '[':
        return read_elements(value, depth);
      case '"':
        value->kind = JsonValue::Kind::kText;
        return read_text(&value->text);
      case 't':
        return read_word("true", JsonValue::Kind::kBoolean, value);
      case 'f':
        return read_word("false", JsonValue::Kind::kBoolean, value);
      case 'n':
        return read_word("null", JsonValue::Kind::kNull, value);
      default:
        return read_number(value);
    }
  }

  bool read_word(std::string_view word, JsonValue::Kind kind, JsonValue* value) {
    value->kind = kind;
    value->text = word;
    return take(word);
  }

  bool read_members(JsonValue* value, size_t depth) {
    value->kind = JsonValue::Kind::kObject;
    take('{');
    skip_space();
    if (take('}')) return true;
    do {
      skip_space();
      std::string key;
      if (peek() != '"' || !read_text(&key)) return false;
      if (std::find(value->keys.begin(), value->keys.end(), key) != value->keys.end()) return false;
      skip_space();
      if (!take(':')) return false;
      value->keys.push_back(std::move(key));
      value->values.emplace_back();
      if (!read_value(&value->values.back(), depth + 1)) return false;
      skip_space();
    } while (take(','));
    return take('}');
  }

  bool read_elements(JsonValue* value, size_t depth) {
    value->kind = JsonValue::Kind::kArray;
    take('[');
    skip_space();
    if (take(']')) return true;
    do {
      value->values.emplace_back();
      if (!read_value(&value->values.back(), depth + 1)) return false;
      skip_space();
    } while (take(','));
    return take(']');
  }

  bool read_text(std::string* text) {
    take('"');
    while (at_ < text_.size()) {
      if (take('"')) return true;
      if (take('\\')) {
        if (!read_escape(text)) return false;
        continue;
      }
      if (static_cast<uint8_t>(text_[at_]) < 0x20) return false;
      const size_t length = utf8_length(text_.substr(at_));
      if (length == 0) return false;
      text->append(text_, at_, length);
      at_ += length;
    }
    return false;
  }

  bool read_escape(std::string* text) {
    constexpr std::string_view kShort = "\"\\/bfnrt";
    constexpr std::string_view kMeant = "\"\\/\b\f\n\r\t";
    const size_t index = at_ < text_.size() ? kShort.find(text_[at_]) : std::string_view::npos;
    if (index != std::string_view::npos) {
      ++at_;
      *text += kMeant[index];
      return true;
    }
    uint32_t point;
    if (!take('u') || !read_hex(&point)) return false;
    if (point >= 0xd800 && point < 0xdc00) {
      uint32_t low;
      if (!take("\\u") || !read_hex(&low) || low < 0xdc00 || low > 0xdfff) return false;
      point = 0x10000 + ((point & 0x3ff) << 10 | (low & 0x3ff));
    } else if (point == 0 || (point >= 0xdc00 && point < 0xe000)) {
      return false;
    }
    append_utf8(point, text);
    return true;
  }

  bool read_hex(uint32_t* value) {
    *value = 0;
    for (size_t i = 0; i < 4; ++i, ++at_) {
      const char c = peek();
      const uint32_t digit = is_digit(c)            ? static_cast<uint32_t>(c - '0')
                             : c >= 'a' && c <= 'f' ? static_cast<uint32_t>(c - 'a' + 10)
                             : c >= 'A' && c <= 'F' ? static_cast<uint32_t>(c - 'A' + 10)
                                                    : 16;
      if (digit == 16) return false;
      *value = *value << 4 | digit;
    }
    return true;
  }

  bool read_number(JsonValue* value) {
    const size_t begin = at_;
    take('-');
    if (!take('0') && !take_digits()) return false;
    if (take('.') && !take_digits()) return false;
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      if (!take_digits()) return false;
    }
    value->kind = JsonValue::Kind::kNumber;
    value->text = text_.substr(begin, at_ - begin);
    return true;
  }

  bool take_digits() {
    const size_t begin = at_;
    while (is_digit(peek())) ++at_;
    return at_ > begin;
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

const JsonValue* JsonValue::find(std::string_view key) const {
  const auto place = std::find(keys.begin(), keys.end(), key);
  return place == keys.end() ? nullptr : &values[static_cast<size_t>(place - keys.begin())];
}

const std::string* JsonValue::find_text(std::string_view key) const {
  const JsonValue* const value = find(key);
  return value != nullptr && value->kind == Kind::kText ? &value->text : nullptr;
}

bool JsonValue::find_count(std::string_view key, uint64_t* value) const {
  const JsonValue* const found = find(key);
  if (found == nullptr || found->kind != Kind::kNumber) return false;
  uint64_t count = 0;
  for (const char c : found->text) {
    if (!is_digit(c)) return false;
    const auto digit = static_cast<uint64_t>(c - '0');
    if (count > (uint64_t{INT64_MAX} - digit) / 10) return false;
    count = count * 10 + digit;
  }
  *value = count;
  return true;
}

bool read_json(std::string_view text, JsonValue* value, std::string* error) {
  *value = JsonValue();
  return Reader(text).read(value, error);
}

}  // namespace edgekit
