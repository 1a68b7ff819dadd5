#include "cli/cublas_library.hpp"

#include <array>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "base/fail.hpp"
#include "cli/dynamic_library.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::array kFiles{"libcublas.so.13", "libcublas.so.12"};

DynamicLibrary open(const std::string& file) {
  // What it needs lies beside it, where the loader need not look.
  const std::filesystem::path path(file);
  if (path.has_parent_path()) {
    const std::string name = path.filename().string();
    constexpr std::size_t kStemLength = 9;  // "libcublas"
    if (name.size() > kStemLength) DynamicLibrary((path.parent_path() / ("libcublasLt" + name.substr(kStemLength))).string());
  }
  return DynamicLibrary(file);
}

CublasLibrary load() {
  const char* const named = std::getenv(kCublasVariable);
  std::optional<DynamicLibrary> library;
  std::string reasons;
  for (const std::string& file : cublas_files(named)) {
    library.emplace(open(file));
    if (library->is_loaded()) break;
    reasons += (reasons.empty() ? "" : "; ") + library->reason();
  }
  if (!library->is_loaded()) {
    fail(ErrorCode::kUnsupported,
         "--overlap needs cuBLAS: {}. Install CUDA's cuBLAS, or name the file or its folder in {}; pip's packages have it in "
         "site-packages/nvidia/cu13/lib or site-packages/nvidia/cublas/lib",
         reasons, kCublasVariable);
  }
  CublasLibrary calls{};
  const auto find = [&](const char* name, auto& call) { library->find(name, "--overlap", &call); };
  find("cublasCreate_v2", calls.create);
  find("cublasDestroy_v2", calls.destroy);
  find("cublasGetVersion_v2", calls.get_version);
  find("cublasSetStream_v2", calls.set_stream);
  find("cublasSetSmCountTarget", calls.set_sm_count_target);
  find("cublasSetWorkspace_v2", calls.set_workspace);
  find("cublasGemmEx", calls.multiply);
  find("cublasGetStatusString", calls.error_text);
  return calls;
}

}  // namespace

void CublasLibrary::check(int result, const char* call) const {
  if (result == 0) return;
  fail(ErrorCode::kSystem, "{} failed: {} ({}); CUBLAS_LOGINFO_DBG=1 says more", call, error_text(result), result);
}

std::vector<std::string> cublas_files(const char* named) {
  std::vector<std::string> files;
  if (named == nullptr || *named == '\0') {
    files.assign(kFiles.begin(), kFiles.end());
    return files;
  }
  const std::filesystem::path path(named);
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return {path.string()};
  for (const char* file : kFiles) files.push_back((path / file).string());
  return files;
}

const CublasLibrary& cublas_library() {
  static const CublasLibrary library = load();
  return library;
}

}  // namespace tokenyard::cli
