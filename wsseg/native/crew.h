// A few threads that share numbered tasks, alive for one call of a kernel.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace wsseg {

class Crew {
public:
    explicit Crew(int threads) {
        try {
            for (int i = 1; i < threads; ++i) helpers_.emplace_back([this] { help(); });
        } catch (...) {  // the system gives no more threads: those that started will do
        }
    }

    ~Crew() {
        over_ = true;
        for (std::thread& helper : helpers_) helper.join();
    }

    // Do task(0) ... task(count - 1), in any order and on any thread; return when all are done.
    // The first exception of a task is thrown here.
    void run(size_t count, const std::function<void(size_t)>& task) {
        if (helpers_.empty() || count < 2) {
            for (size_t i = 0; i < count; ++i) task(i);
            return;
        }
        task_ = &task;
        done_ = 0;
        ticket_.store(uint64_t(count) << 32, std::memory_order_release);
        work();
        for (unsigned idle = 0; done_.load(std::memory_order_acquire) < count;) pause(++idle);
        if (fault_) std::rethrow_exception(std::exchange(fault_, nullptr));
    }

private:
    // Count and next number travel in one word: who claims a number below the count knows that
    // the task is still there.
    void work() {
        for (;;) {
            uint64_t seen = ticket_.load(std::memory_order_acquire);
            if (uint32_t(seen) >= seen >> 32) return;
            if (!ticket_.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) continue;
            try {
                (*task_)(uint32_t(seen));
            } catch (...) {
                std::lock_guard<std::mutex> lock(mutex_);
                if (!fault_) fault_ = std::current_exception();
            }
            done_.fetch_add(1, std::memory_order_acq_rel);
        }
    }

    void help() {
        for (unsigned idle = 0; !over_; pause(++idle)) {
            uint64_t seen = ticket_.load(std::memory_order_acquire);
            if (uint32_t(seen) < seen >> 32) {
                work();
                idle = 0;
            }
        }
    }

    // Waits are short but frequent, and the cores may be shared with other jobs.
    static void pause(unsigned idle) {
        if (idle < 256) {
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        } else if (idle < 4096) {
            std::this_thread::yield();
        } else {
            std::this_thread::sleep_for(std::chrono::microseconds(50));
        }
    }

    std::vector<std::thread> helpers_;
    const std::function<void(size_t)>* task_ = nullptr;
    std::atomic<uint64_t> ticket_{0};
    std::atomic<size_t> done_{0};
    std::atomic<bool> over_{false};
    std::mutex mutex_;
    std::exception_ptr fault_;
};

}  // namespace wsseg
