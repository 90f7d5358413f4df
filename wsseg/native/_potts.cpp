// Primal-dual iterations for the convex relaxation of the Potts model: see wsseg/refine/potts.py
// for the energy, the algorithm and its sources; its numpy engine does the same in ten lines.
//
// One iteration is one pass over memory: the dual step of a row follows as soon as the primal step
// of the row below is done, so the extrapolated mask never leaves the cache. Rows are split in
// bands, one a thread; every pixel meets the same operations in the same order whatever the split,
// and the sums are added row by row, so results do not depend on the number of threads. The AVX2
// and the plain build round alike because neither contracts to fused multiply-adds.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "potts_rows.h"

namespace py = pybind11;

namespace {

class Barrier {
  public:
    explicit Barrier(int parties) : parties_(parties) {}
    void wait() {
        if (parties_ == 1) return;
        std::unique_lock<std::mutex> lock(mutex_);
        const int turn = turn_;
        if (++waiting_ == parties_) {
            waiting_ = 0;
            ++turn_;
            all_.notify_all();
        } else {
            all_.wait(lock, [&] { return turn != turn_; });
        }
    }

  private:
    std::mutex mutex_;
    std::condition_variable all_;
    const int parties_;
    int waiting_ = 0, turn_ = 0;
};

struct Band {
    int first, last;    // rows [first, last)
    float *bar[3];      // extrapolated rows: the band's first, and two taken in turn
    float *scratch;     // one block of pixels, all classes
    float *next;        // the first extrapolated row of the band below; null at the bottom
};

// A band's rows but its last dual row, which waits for the band below.
template <int KC, bool ISO>
INLINE void sweep(const Grid& g, const Band& band, float relax) {
    float* before = band.bar[0];
    primal_row<KC>(g, band.first, relax, before, band.scratch);
    for (int y = band.first + 1; y < band.last; ++y) {
        float* now = band.bar[1 + (y & 1)];
        primal_row<KC>(g, y, relax, now, band.scratch);
        dual_row<KC, ISO>(g, y - 1, relax, before, now);
        before = now;
    }
}

template <int KC, bool ISO>
INLINE void run_band(const Grid& g, const Band& band, int iterations, float relax, Barrier& gate) {
    const int last = band.last - 1;
    const float* own = last == band.first ? band.bar[0] : band.bar[1 + (last & 1)];
    for (int i = 0; i < iterations; ++i) {
        const float r = i + 1 < iterations ? relax : 1.0f;
        sweep<KC, ISO>(g, band, r);
        gate.wait();
        dual_row<KC, ISO>(g, last, r, own, band.next ? band.next : own);
        gate.wait();
    }
}

template <bool ISO>
INLINE void run_any(const Grid& g, const Band& band, int iterations, float relax, Barrier& gate) {
    switch (g.classes) {
        case 2: return run_band<2, ISO>(g, band, iterations, relax, gate);
        case 3: return run_band<3, ISO>(g, band, iterations, relax, gate);
        case 4: return run_band<4, ISO>(g, band, iterations, relax, gate);
        default: return run_band<0, ISO>(g, band, iterations, relax, gate);
    }
}

#define KERNELS(NAME, TARGET)                                                                    \
    TARGET void run_##NAME(const Grid& g, const Band& band, bool iso, int iterations,            \
                           float relax, Barrier& gate) {                                         \
        if (iso) run_any<true>(g, band, iterations, relax, gate);                                \
        else run_any<false>(g, band, iterations, relax, gate);                                   \
    }                                                                                            \
    TARGET void energy_##NAME(const Grid& g, bool iso, int y, double* sums) {                    \
        if (iso) energy_row<true>(g, y, sums);                                                   \
        else energy_row<false>(g, y, sums);                                                      \
    }

KERNELS(plain, )
#ifdef WSSEG_X86
KERNELS(avx2, __attribute__((target("avx2"))))
bool fast() {
    static const bool yes = __builtin_cpu_supports("avx2") && !std::getenv("WSSEG_NO_AVX2");
    return yes;
}
#else
constexpr auto run_avx2 = run_plain;
constexpr auto energy_avx2 = energy_plain;
bool fast() { return false; }
#endif

// Vanishing dual variables would become denormal numbers, which are many times slower.
class FlushDenormals {
  public:
#ifdef WSSEG_X86
    FlushDenormals() : kept_(_mm_getcsr()) { _mm_setcsr(kept_ | 0x8040); }
    ~FlushDenormals() { _mm_setcsr(kept_); }

  private:
    const unsigned kept_;
#endif
};

// Zeroed floats on a cache line, with room before the first for a look to the left.
class Floats {
  public:
    explicit Floats(std::size_t size) : memory_(std::calloc(size + 4 * kBlock, sizeof(float))) {
        if (!memory_) throw std::bad_alloc();
        const auto at = reinterpret_cast<std::uintptr_t>(memory_) + kBlock * sizeof(float);
        data_ = reinterpret_cast<float*>((at + 63) & ~std::uintptr_t(63));
    }
    ~Floats() { std::free(memory_); }
    Floats(const Floats&) = delete;
    Floats& operator=(const Floats&) = delete;
    float* get() const { return data_; }

  private:
    void* memory_;
    float* data_;
};

using Array = py::array_t<float, py::array::c_style | py::array::forcecast>;

std::size_t padded(py::ssize_t width) {
    // At least one float more than the width (the right neighbour of the last pixel), and an odd
    // number of cache lines, lest the rows of many classes fall on the same cache sets.
    return ((std::size_t(width) / kBlock + 1) | 1) * kBlock;
}

class Solver {
  public:
    Solver(Array cost, Array weight, bool isotropic, int threads)
        : iso_(isotropic), classes_(checked(cost, weight)), height_(int(cost.shape(1))),
          width_(int(cost.shape(2))), stride_(padded(width_)), plane_(stride_ * classes_),
          threads_(std::clamp(threads, 1, std::max(1, height_ / 4))), cost_(plane_ * height_),
          u_(plane_ * height_), px_(plane_ * height_), py_(plane_ * height_),
          wx_(stride_ * height_), wy_(stride_ * (height_ + 1)), tau_(stride_ * height_),
          hx_(stride_), bars_(threads_ * (3 * plane_ + classes_ * kBlock)) {
        grid_ = {classes_, height_, width_, stride_, cost_.get(), u_.get(), px_.get(), py_.get(),
                 wx_.get(), wy_.get() + stride_, tau_.get(), hx_.get()};
        const float *f = cost.data(), *w = weight.data();
        py::gil_scoped_release release;
        enter(f, grid_.cost);
        for (int y = 0; y < height_; ++y)
            for (int x = 0; x < width_; ++x) {
                const float here = w[std::size_t(y) * width_ + x];
                if (x + 1 < width_) grid_.wx[y * stride_ + x] = here;
                if (y + 1 < height_) grid_.wy[y * stride_ + x] = here;
            }
        for (int x = 0; x + 1 < width_; ++x) grid_.hx[x] = 0.5f;
        for (int y = 0; y < height_; ++y)
            for (int x = 0; x < width_; ++x) {
                const std::size_t i = y * stride_ + x;
                const float left = x ? grid_.wx[i - 1] : 0.0f,
                            up = y ? grid_.wy[i - stride_] : 0.0f;
                grid_.tau[i] = 1.0f / std::max(grid_.wx[i] + grid_.wy[i] + left + up, 1e-3f);
            }
    }

    void start(Array mask, Array duals) {
        if (mask.size() != size() || duals.size() != 2 * size())
            throw std::invalid_argument("start needs masks (K,H,W) and duals (2,K,H,W)");
        enter(mask.data(), grid_.u);
        enter(duals.data(), grid_.px);
        enter(duals.data() + size(), grid_.py);
    }

    void run(int iterations, float relax) {
        py::gil_scoped_release release;
        const int bands = threads_;
        Barrier gate(bands);
        on_threads([&](int t) {
            const auto cut = [&](int i) { return int(std::int64_t(height_) * i / bands); };
            const std::size_t step = 3 * plane_ + classes_ * kBlock;
            float* room = bars_.get() + t * step;
            const Band band = {cut(t), cut(t + 1), {room, room + plane_, room + 2 * plane_},
                               room + 3 * plane_, t + 1 < bands ? room + step : nullptr};
            (fast() ? run_avx2 : run_plain)(grid_, band, iso_, iterations, relax, gate);
        });
    }

    std::pair<double, double> energies() {
        py::gil_scoped_release release;
        std::vector<double> rows(2 * std::size_t(height_));
        on_threads([&](int t) {
            for (int y = t; y < height_; y += threads_)
                (fast() ? energy_avx2 : energy_plain)(grid_, iso_, y, &rows[2 * std::size_t(y)]);
        });
        double primal = 0.0, dual = 0.0;
        for (int y = 0; y < height_; ++y) {
            primal += rows[2 * std::size_t(y)];
            dual += rows[2 * std::size_t(y) + 1];
        }
        return {primal, dual};
    }

    Array mask() const {
        Array out({py::ssize_t(classes_), py::ssize_t(height_), py::ssize_t(width_)});
        leave(grid_.u, out.mutable_data());
        return out;
    }

    Array duals() const {
        Array out({py::ssize_t(2), py::ssize_t(classes_), py::ssize_t(height_),
                   py::ssize_t(width_)});
        leave(grid_.px, out.mutable_data());
        leave(grid_.py, out.mutable_data() + size());
        return out;
    }

  private:
    static int checked(const Array& cost, const Array& weight) {
        if (cost.ndim() != 3 || weight.ndim() != 2 || cost.shape(1) != weight.shape(0)
            || cost.shape(2) != weight.shape(1) || cost.size() == 0
            || cost.shape(1) >= INT32_MAX || cost.shape(2) >= INT32_MAX / 2)
            throw std::invalid_argument("need costs (K,H,W) and weights (H,W), none empty");
        return int(cost.shape(0));
    }

    py::ssize_t size() const { return py::ssize_t(classes_) * height_ * width_; }

    template <class Work>
    void on_threads(const Work& work) {
        std::vector<std::thread> others;
        // Threads start work only when all could be made: they meet at barriers.
        std::atomic<int> ready{0};
        try {
            for (int t = 1; t < threads_; ++t)
                others.emplace_back([&, t] {
                    while (!ready.load(std::memory_order_acquire)) std::this_thread::yield();
                    if (ready.load() < 0) return;
                    const FlushDenormals flush;
                    work(t);
                });
        } catch (...) {
            ready.store(-1);
            for (auto& thread : others) thread.join();
            throw;
        }
        ready.store(1, std::memory_order_release);
        {
            const FlushDenormals flush;
            work(0);
        }
        for (auto& thread : others) thread.join();
    }

    void enter(const float* from, float* to) const {
        for (int k = 0; k < classes_; ++k)
            for (int y = 0; y < height_; ++y, from += width_)
                std::copy(from, from + width_, to + grid_.row(y) + k * stride_);
    }

    void leave(const float* from, float* to) const {
        for (int k = 0; k < classes_; ++k)
            for (int y = 0; y < height_; ++y, to += width_) {
                const float* row = from + grid_.row(y) + k * stride_;
                std::copy(row, row + width_, to);
            }
    }

    const bool iso_;
    const int classes_, height_, width_;
    const std::size_t stride_, plane_;
    const int threads_;
    Floats cost_, u_, px_, py_, wx_, wy_, tau_, hx_, bars_;
    Grid grid_;
};

}  // namespace

PYBIND11_MODULE(_potts, module) {
    module.doc() = "Primal-dual iterations for the Potts model (see wsseg.refine.potts).";
    py::class_<Solver>(module, "Solver")
        .def(py::init<Array, Array, bool, int>(), py::arg("costs"), py::arg("weights"),
             py::arg("isotropic"), py::arg("threads"))
        .def("start", &Solver::start, py::arg("mask"), py::arg("duals"))
        .def("run", &Solver::run, py::arg("iterations"), py::arg("relax"))
        .def("energies", &Solver::energies)
        .def("mask", &Solver::mask)
        .def("duals", &Solver::duals);
}
