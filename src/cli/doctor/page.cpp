#include "cli/doctor/page.hpp"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

namespace tokenyard::cli {
namespace {

constexpr std::size_t kSectionWidth = 15;  // with the space behind it
constexpr std::size_t kMarkWidth = 6;
constexpr std::size_t kLeastWidth = 80;  // of terminals; narrower ones do not know theirs, or wrap anyway
constexpr std::size_t kMostWidth = 120;
constexpr const char* kReset = "\x1b[0m";

struct Mark {
  const char* text;
  const char* color;
};

Mark mark_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk: return {"ok", "\x1b[32m"};
    case Verdict::kNotApplicable: return {"-", "\x1b[2m"};
    case Verdict::kWarning: return {"WARN", "\x1b[1;33m"};
    case Verdict::kFailure: return {"FAIL", "\x1b[1;31m"};
  }
  return {"", ""};
}

std::string paint(const std::string& text, const char* color, bool is_colored) {
  return is_colored ? color + text + kReset : text;
}

// Characters, not bytes: continuation bytes of UTF-8 take no place on the screen.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char byte) { return (byte & 0xc0) != 0x80; }));
}

std::vector<std::string> wrap(const std::string& text, std::size_t width) {
  std::vector<std::string> lines{""};
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    std::string& line = lines.back();
    if (!line.empty() && width_of(line) + 1 + width_of(word) > width) {
      lines.push_back(word);
    } else {
      line += (line.empty() ? "" : " ") + word;
    }
  }
  return lines;
}

// The first line goes behind what is there already; all others are indented as far.
void add_wrapped(std::string& page, const std::string& text, std::size_t indent, std::size_t width, const char* color,
                 bool is_colored) {
  const std::vector<std::string> lines = wrap(text, width > indent + 20 ? width - indent : 20);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) page.append(indent, ' ');
    page += (*color == '\0' ? lines[i] : paint(lines[i], color, is_colored)) + "\n";
  }
}

std::string text_of(const Finding& finding) {
  std::string text = finding.value;
  if (!finding.why.empty()) text += (text.empty() ? "" : finding.verdict == Verdict::kOk ? "; " : ": ") + finding.why;
  if (!finding.ranks.empty())
    text +=
        fmt::format(" [told by rank{} {}]", finding.ranks.find_first_of(",-") == std::string::npos ? "" : "s", finding.ranks);
  return text;
}

std::string names_of(const Findings& findings, Verdict verdict) {
  std::vector<std::string> names;
  for (const Finding& finding : findings) {
    if (finding.verdict == verdict && std::find(names.begin(), names.end(), finding.name) == names.end())
      names.push_back(finding.name);
  }
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

std::string to_page(const Findings& findings, bool is_colored, std::size_t width) {
  std::size_t name_width = 0;
  for (const Finding& finding : findings) name_width = std::max(name_width, width_of(finding.name));
  const std::size_t indent = kSectionWidth + kMarkWidth + name_width + 2;
  std::string page;
  std::optional<Section> section;
  for (const Finding& finding : findings) {
    const std::string heading = section != finding.section ? to_string(finding.section) : "";
    section = finding.section;
    page += paint(heading, "\x1b[1m", is_colored && !heading.empty());
    page.append(kSectionWidth - heading.size(), ' ');
    const Mark mark = mark_of(finding.verdict);
    page += paint(mark.text, mark.color, is_colored);
    page.append(kMarkWidth - std::string_view(mark.text).size(), ' ');
    page += finding.name;
    page.append(name_width + 2 - width_of(finding.name), ' ');
    add_wrapped(page, text_of(finding), indent, width, finding.verdict == Verdict::kNotApplicable ? mark.color : "",
                is_colored);
    if (finding.cure.empty()) continue;
    page.append(indent - 3, ' ');
    page += paint("=> ", mark.color, is_colored);
    add_wrapped(page, finding.cure, indent, width, "\x1b[1m", is_colored);
  }
  return page;
}

std::string to_conclusion(const Findings& findings, bool is_colored) {
  const int num_failures = count(findings, Verdict::kFailure);
  const int num_warnings = count(findings, Verdict::kWarning);
  std::string warnings;
  if (num_warnings > 0)
    warnings =
        fmt::format("{} warning{} ({})", num_warnings, num_warnings == 1 ? "" : "s", names_of(findings, Verdict::kWarning));
  if (num_failures > 0) {
    const std::string failures = fmt::format("FAILED: {} failure{} ({})", num_failures, num_failures == 1 ? "" : "s",
                                             names_of(findings, Verdict::kFailure));
    return paint(failures, mark_of(Verdict::kFailure).color, is_colored) + (warnings.empty() ? "" : ", " + warnings) + "\n";
  }
  if (num_warnings > 0) return paint("OK", mark_of(Verdict::kOk).color, is_colored) + ", with " + warnings + "\n";
  return paint("OK", mark_of(Verdict::kOk).color, is_colored) + ": nothing to complain about\n";
}

std::string to_complaints(const Findings& findings, int rank) {
  std::string text;
  for (const Finding& finding : findings) {
    if (finding.verdict != Verdict::kFailure && finding.verdict != Verdict::kWarning) continue;
    text += fmt::format("tokenyard [rank {}]: {}: {}: {}\n    => {}\n", rank, to_string(finding.verdict), finding.name,
                        text_of(finding), finding.cure);
  }
  return text;
}

bool wants_color() {
  const char* terminal = std::getenv("TERM");
  const char* no_color = std::getenv("NO_COLOR");
  const bool is_against = no_color != nullptr && *no_color != '\0';
  return isatty(STDOUT_FILENO) == 1 && !is_against && (terminal == nullptr || std::string_view(terminal) != "dumb");
}

std::size_t page_width() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return kMostWidth;
  return size.ws_col < kLeastWidth ? kMostWidth : std::min<std::size_t>(size.ws_col, kMostWidth);
}

}  // namespace tokenyard::cli
