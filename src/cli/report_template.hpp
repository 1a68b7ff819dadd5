// The text of report_page.html, which CMake puts into the program.
#pragma once

#include <string_view>

namespace tokenyard::cli {

// Has the places @SENTENCE@ and @REPORT@, in this order.
extern const std::string_view kReportTemplate;

}  // namespace tokenyard::cli
