#include <utility>
#include <variant>

#include "base/fail.hpp"
#include "engine/plan_impl.hpp"

namespace tokenyard {

class Pending::Impl {
 public:
  template <class Call>
  Impl(std::shared_ptr<Plan::Impl> plan, Call call) : plan_(std::move(plan)), call_(std::move(call)) {}

  const Turn& turn() const {
    return std::visit([](const auto& call) -> const Turn& { return call.turn; }, call_);
  }

  std::chrono::milliseconds timeout() const {
    return std::visit([](const auto& call) { return call.timeout; }, call_);
  }

  // The call, for its second half; it can be taken once.
  template <class Call>
  Call* take() {
    if (std::exchange(completed_, true)) fail(ErrorCode::kStale, "this call has been completed already");
    return &std::get<Call>(call_);
  }

  std::shared_ptr<Plan::Impl> plan_;

 private:
  std::variant<DispatchCall, CombineCall> call_;
  bool completed_ = false;
};

Pending::Pending() = default;
Pending::Pending(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Pending::~Pending() = default;
Pending::Pending(Pending&&) noexcept = default;
Pending& Pending::operator=(Pending&&) noexcept = default;

Pending::Impl& Pending::get() const {
  if (impl_ == nullptr) fail(ErrorCode::kStale, "this call is empty: it was moved from, or never begun");
  return *impl_;
}

bool Pending::done() const { return get().plan_->is_done(get().turn()); }
bool Pending::wait(std::chrono::milliseconds timeout) const { return get().plan_->wait_done(get().turn(), timeout); }
void Pending::on_done(std::function<void()> callback) {
  const Impl& impl = get();
  if (callback == nullptr) fail_argument("the callback is empty: give a function to call");
  impl.plan_->call_when_done(impl.turn(), impl.timeout(), std::move(callback));
}

Received PendingDispatch::complete() { return get().plan_->complete(get().take<DispatchCall>()); }
void PendingCombine::complete() { get().plan_->complete(get().take<CombineCall>()); }

PendingDispatch Plan::begin_dispatch(const DispatchArgs& args) const {
  return PendingDispatch(std::make_shared<Pending::Impl>(impl_, impl_->begin(args)));
}

PendingCombine Plan::begin_combine(const CombineArgs& args) const {
  return PendingCombine(std::make_shared<Pending::Impl>(impl_, impl_->begin(args)));
}

}  // namespace tokenyard
