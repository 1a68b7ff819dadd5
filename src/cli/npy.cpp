#include "cli/npy.hpp"

#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <string_view>
#include <system_error>

#include "base/fail.hpp"
#include "cli/text.hpp"

static_assert(std::endian::native == std::endian::little, "elements are stored as they lie in memory");

namespace tokenyard::cli {
namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr std::size_t kHeaderAlignment = 64;  // of the first element, as NumPy writes it

// Reads the header, a Python dictionary: {'descr': '<i8', 'fortran_order': False, 'shape': (3, 4), }
class HeaderParser {
 public:
  HeaderParser(std::string_view header, const std::string& name) : rest_(header), header_(header), name_(name) {}

  struct Header {
    std::optional<std::string> descr;
    std::optional<bool> fortran_order;
    std::optional<std::vector<std::int64_t>> shape;
  };

  Header parse() {
    Header header;
    expect('{');
    while (!accept('}')) {
      const std::string key = text();
      expect(':');
      if (key == "descr") {
        if (peek() == '[')
          fail_argument("{}: records (dtype {}) are not supported; expected one of <i4, <i8, <f4", name_, rest_);
        header.descr = text();
      } else if (key == "fortran_order") {
        header.fortran_order = truth();
      } else if (key == "shape") {
        header.shape = tuple();
      } else {
        fail_argument("{}: the header has the unknown key '{}'", name_, key);
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    if (peek() != '\0') malformed("the end of the header");
    return header;
  }

 private:
  [[noreturn]] void malformed(std::string_view expected) const {
    fail_argument("{}: malformed header: expected {} at byte {} of \"{}\"", name_, expected, header_.size() - rest_.size(),
                  header_);
  }

  char peek() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\n' || rest_.front() == '\t')) rest_.remove_prefix(1);
    return rest_.empty() ? '\0' : rest_.front();
  }

  bool accept(char wanted) {
    if (peek() != wanted) return false;
    rest_.remove_prefix(1);
    return true;
  }

  void expect(char wanted) {
    if (!accept(wanted)) malformed(std::string("'") + wanted + "'");
  }

  std::string text() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') malformed("a quoted text");
    const std::size_t end = rest_.find(quote, 1);
    if (end == std::string_view::npos) malformed("the end of the quoted text");
    std::string content(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return content;
  }

  bool truth() {
    peek();
    for (const auto& [word, value] : {std::pair<std::string_view, bool>{"True", true}, {"False", false}}) {
      if (rest_.starts_with(word)) {
        rest_.remove_prefix(word.size());
        return value;
      }
    }
    malformed("True or False");
  }

  std::vector<std::int64_t> tuple() {
    std::vector<std::int64_t> extents;
    expect('(');
    while (!accept(')')) {
      extents.push_back(extent());
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return extents;
  }

  std::int64_t extent() {
    const char first = peek();
    if (first == '-') fail_argument("{}: the shape has a negative extent in \"{}\"", name_, header_);
    if (first < '0' || first > '9') malformed("a number");
    std::int64_t value = 0;
    while (!rest_.empty() && rest_.front() >= '0' && rest_.front() <= '9') {
      const int digit = rest_.front() - '0';
      if (value > (std::numeric_limits<std::int64_t>::max() - digit) / 10) {
        fail_argument("{}: the shape in \"{}\" has an extent that is larger than 2^63 - 1", name_, header_);
      }
      value = value * 10 + digit;
      rest_.remove_prefix(1);
    }
    return value;
  }

  std::string_view rest_;
  std::string_view header_;
  const std::string& name_;
};

DataType dtype_of(const std::string& descr, const std::string& name) {
  if (descr == "<i4") return DataType::kInt32;
  if (descr == "<i8") return DataType::kInt64;
  if (descr == "<f4") return DataType::kFloat32;
  if (descr.starts_with('>')) {
    fail_argument("{}: big-endian elements (dtype '{}') are not supported: convert with .astype('<' + ...)", name, descr);
  }
  fail_argument("{}: dtype '{}' is not supported; expected '<i4' (int32), '<i8' (int64) or '<f4' (float32)", name, descr);
}

const char* descr_of(DataType dtype) {
  switch (dtype) {
    case DataType::kInt32: return "<i4";
    case DataType::kInt64: return "<i8";
    case DataType::kFloat32: return "<f4";
    default: fail_argument("a .npy array of this element type is not supported: int32, int64 and float32 are");
  }
}

std::size_t little_endian(std::span<const std::byte> bytes) {
  std::size_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8 | std::to_integer<std::size_t>(bytes[i]);
  return value;
}

}  // namespace

std::int64_t NpyArray::integer(std::int64_t row, std::int64_t column) const {
  const std::byte* element = bytes.data() + static_cast<std::size_t>(row * num_columns + column) * size_of(dtype);
  if (dtype == DataType::kInt32) {
    std::int32_t value;
    std::memcpy(&value, element, sizeof(value));
    return value;
  }
  std::int64_t value;
  std::memcpy(&value, element, sizeof(value));
  return value;
}

NpyArray parse_npy(std::span<const std::byte> file, const std::string& name) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  if (!text.starts_with(kMagic)) {
    fail_argument("{}: not a .npy file: it does not begin with the six bytes \\x93NUMPY", name);
  }
  if (file.size() < kMagic.size() + 2)
    fail_argument("{}: truncated: the file ends after {} bytes, before its version", name, file.size());
  const int major = std::to_integer<int>(file[kMagic.size()]);
  const int minor = std::to_integer<int>(file[kMagic.size() + 1]);
  if ((major != 1 && major != 2) || minor != 0) {
    fail_argument("{}: format version {}.{} is not supported; versions 1.0 and 2.0 are", name, major, minor);
  }
  const std::size_t length_bytes = major == 1 ? 2 : 4;
  const std::size_t header_start = kMagic.size() + 2 + length_bytes;
  if (file.size() < header_start)
    fail_argument("{}: truncated: the file ends after {} bytes, before its header", name, file.size());
  const std::size_t header_bytes = little_endian(file.subspan(kMagic.size() + 2, length_bytes));
  if (header_bytes > file.size() - header_start) {
    fail_argument("{}: truncated: the header should have {} bytes, and {} follow", name, header_bytes,
                  file.size() - header_start);
  }

  const HeaderParser::Header header = HeaderParser(text.substr(header_start, header_bytes), name).parse();
  if (!header.descr) fail_argument("{}: the header lacks the key 'descr'", name);
  if (!header.fortran_order) fail_argument("{}: the header lacks the key 'fortran_order'", name);
  if (!header.shape) fail_argument("{}: the header lacks the key 'shape'", name);
  NpyArray array;
  array.dtype = dtype_of(*header.descr, name);
  if (*header.fortran_order) {
    fail_argument("{}: the array lies in Fortran order; save it with numpy.ascontiguousarray(...)", name);
  }
  if (header.shape->size() != 2) fail_argument("{}: the array has {} dimensions; expected 2", name, header.shape->size());
  array.num_rows = (*header.shape)[0];
  array.num_columns = (*header.shape)[1];

  std::int64_t num_elements = 0;
  std::int64_t num_bytes = 0;
  if (__builtin_mul_overflow(array.num_rows, array.num_columns, &num_elements) ||
      __builtin_mul_overflow(num_elements, static_cast<std::int64_t>(size_of(array.dtype)), &num_bytes)) {
    fail_argument("{}: a shape of {} x {} needs more than 2^63 - 1 bytes", name, array.num_rows, array.num_columns);
  }
  const std::span<const std::byte> elements = file.subspan(header_start + header_bytes);
  if (elements.size() < static_cast<std::size_t>(num_bytes)) {
    fail_argument("{}: truncated: a shape of {} x {} needs {} bytes of elements, and {} follow the header", name,
                  array.num_rows, array.num_columns, num_bytes, elements.size());
  }
  if (elements.size() > static_cast<std::size_t>(num_bytes)) {
    fail_argument("{}: a shape of {} x {} needs {} bytes of elements, but {} follow the header", name, array.num_rows,
                  array.num_columns, num_bytes, elements.size());
  }
  array.bytes.assign(elements.begin(), elements.end());
  return array;
}

NpyArray read_npy(const std::string& path) {
  const std::string file = read_text_file(path);
  return parse_npy(std::as_bytes(std::span(file)), "\"" + path + "\"");
}

std::vector<std::byte> format_npy(const NpyArray& array) {
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}, {}), }}", descr_of(array.dtype),
                                   array.num_rows, array.num_columns);
  const std::size_t prefix_bytes = kMagic.size() + 2 + 2;
  const std::size_t unpadded = prefix_bytes + header.size() + 1;
  header.append((kHeaderAlignment - unpadded % kHeaderAlignment) % kHeaderAlignment, ' ');
  header.push_back('\n');

  std::string file(kMagic);
  file += {'\x01', '\x00', static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  file += header;
  const auto start = std::as_bytes(std::span(file));
  std::vector<std::byte> bytes(start.begin(), start.end());
  bytes.insert(bytes.end(), array.bytes.begin(), array.bytes.end());
  return bytes;
}

void write_npy(const std::string& path, const NpyArray& array) {
  const std::vector<std::byte> bytes = format_npy(array);
  errno = 0;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) {
    const int number = errno;
    fail(ErrorCode::kSystem, "cannot write \"{}\": {}", path, std::generic_category().message(number == 0 ? EIO : number));
  }
}

}  // namespace tokenyard::cli
