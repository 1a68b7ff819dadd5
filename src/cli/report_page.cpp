#include "cli/report_page.hpp"

#include "cli/report_template.hpp"

namespace tokenyard::cli {
namespace {

std::string html_text(std::string_view text) {
  std::string escaped;
  for (const char letter : text) {
    switch (letter) {
      case '&': escaped += "&amp;"; break;
      case '<': escaped += "&lt;"; break;
      case '>': escaped += "&gt;"; break;
      default: escaped += letter;
    }
  }
  return escaped;
}

// A script element ends at the first "</", also inside of a string.
std::string script_text(std::string_view json) {
  std::string escaped;
  for (const char letter : json) {
    if (letter == '<') {
      escaped += "\\u003c";
    } else {
      escaped += letter;
    }
  }
  return escaped;
}

}  // namespace

std::string report_page(std::string_view sentence, std::string_view report) {
  constexpr std::string_view kSentence = "@SENTENCE@";
  constexpr std::string_view kReport = "@REPORT@";
  const std::string_view page = kReportTemplate;
  const std::size_t sentence_place = page.find(kSentence);
  const std::size_t report_place = page.find(kReport);
  const std::size_t behind_sentence = sentence_place + kSentence.size();
  std::string text(page.substr(0, sentence_place));
  text += html_text(sentence);
  text += page.substr(behind_sentence, report_place - behind_sentence);
  text += script_text(report);
  text += page.substr(report_place + kReport.size());
  return text;
}

}  // namespace tokenyard::cli
