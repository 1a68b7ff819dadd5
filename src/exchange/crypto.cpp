#include "exchange/crypto.hpp"

#include <sodium.h>

#include <tuple>

#include "base/fail.hpp"

namespace tokenyard {
namespace {

static_assert(std::tuple_size_v<Mac> == crypto_auth_hmacsha256_BYTES);
static_assert(std::tuple_size_v<Digest> == crypto_generichash_BYTES);

void start_library() {
  static const bool has_started = sodium_init() >= 0;
  if (!has_started) fail(ErrorCode::kSystem, "libsodium cannot start: does this system provide random numbers (/dev/urandom)?");
}

unsigned char* raw(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }
const unsigned char* raw(const std::byte* bytes) { return reinterpret_cast<const unsigned char*>(bytes); }

}  // namespace

Key::~Key() { sodium_memzero(bytes_.data(), bytes_.size()); }

Nonce random_nonce() {
  start_library();
  Nonce nonce;
  randombytes_buf(nonce.data(), nonce.size());
  return nonce;
}

std::uint32_t random_below(std::uint32_t bound) {
  start_library();
  return randombytes_uniform(bound);
}

Digest digest_of(std::initializer_list<std::span<const std::byte>> parts) {
  start_library();
  Digest digest;
  crypto_generichash_state state;
  crypto_generichash_init(&state, nullptr, 0, digest.size());
  for (const std::span<const std::byte> part : parts) crypto_generichash_update(&state, raw(part.data()), part.size());
  crypto_generichash_final(&state, raw(digest.data()), digest.size());
  return digest;
}

Mac hmac(std::span<const std::byte> key, std::span<const std::byte> message) {
  start_library();
  Mac mac;
  crypto_auth_hmacsha256_state state;
  crypto_auth_hmacsha256_init(&state, raw(key.data()), key.size());
  crypto_auth_hmacsha256_update(&state, raw(message.data()), message.size());
  crypto_auth_hmacsha256_final(&state, raw(mac.data()));
  sodium_memzero(&state, sizeof(state));
  return mac;
}

bool is_equal(const Mac& left, const Mac& right) { return sodium_memcmp(left.data(), right.data(), left.size()) == 0; }

}  // namespace tokenyard
