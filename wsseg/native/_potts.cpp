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

#if defined(__x86_64__) || defined(__i386__)
#include <xmmintrin.h>
#define WSSEG_X86 1
#endif

namespace py = pybind11;

namespace {

#define INLINE inline __attribute__((always_inline))

// Vectors of eight that may lie at any float's address; without AVX the compiler splits them.
typedef float v8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef std::int32_t m8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef double d8 __attribute__((vector_size(64)));
constexpr int kLanes = 8, kBlock = 16;

INLINE v8 load(const float* p) { return *reinterpret_cast<const v8*>(p); }
INLINE void store(float* p, v8 v) { *reinterpret_cast<v8*>(p) = v; }
INLINE v8 larger(v8 a, v8 b) { return a > b ? a : b; }
INLINE v8 smaller(v8 a, v8 b) { return a < b ? a : b; }
INLINE v8 magnitude(v8 a) { return (v8)((m8)a & 0x7fffffff); }

// By halves, in SSE: of the 256-bit forms the compiler makes neither from vector expressions.
INLINE bool any(m8 mask) {
#ifdef WSSEG_X86
    const __m128* half = reinterpret_cast<const __m128*>(&mask);
    return _mm_movemask_ps(_mm_or_ps(half[0], half[1])) != 0;
#else
    std::int32_t all = 0;
    for (int i = 0; i < kLanes; ++i) all |= mask[i];
    return all != 0;
#endif
}
INLINE v8 root(v8 a) {
#ifdef WSSEG_X86
    __m128* half = reinterpret_cast<__m128*>(&a);
    half[0] = _mm_sqrt_ps(half[0]);
    half[1] = _mm_sqrt_ps(half[1]);
#else
    for (int i = 0; i < kLanes; ++i) a[i] = __builtin_sqrtf(a[i]);
#endif
    return a;
}

struct Grid {
    int classes, height, width;
    std::size_t stride;          // floats in a padded row of one class
    float *cost, *u, *px, *py;   // [height][classes][stride]
    float *wx, *wy, *tau;        // [height][stride]; weights are 0 where there is no neighbour
    float *hx;                   // [stride]: dual step, 0 in the last column
    std::size_t row(int y) const { return std::size_t(y) * classes * stride; }
};

// u <- simplex projection of u - tau (cost + K'p), extrapolated into bar; one row.
template <int KC>
INLINE void primal_row(const Grid& g, int y, float relax, float* bar, float* scratch) {
    const int classes = KC ? KC : g.classes;
    const std::size_t s = g.stride, at = g.row(y), above = g.row(std::max(y - 1, 0));
    const float *wx = g.wx + y * s, *wy = g.wy + y * s, *wu = wy - s, *tau = g.tau + y * s;
    const bool plain = relax == 1.0f;
    v8* const v = reinterpret_cast<v8*>(scratch);
    for (std::size_t x = 0; x < s; x += kBlock) {
        v8 theta[2];
        m8 count[2];
        for (int b = 0; b < 2; ++b) {
            const std::size_t i = x + b * kLanes;
            const v8 wr = load(wx + i), wl = load(wx + i - 1), wd = load(wy + i),
                     wt = load(wu + i), t = load(tau + i);
            v8 top = v8{} - 1e38f, held = {};
            m8 kept = {};
            for (int k = 0; k < classes; ++k) {
                const std::size_t j = at + k * s + i;
                const v8 flow = wl * load(g.px + j - 1) - wr * load(g.px + j)
                    + (wt * load(g.py + above + k * s + i) - wd * load(g.py + j));
                const v8 old = load(g.u + j), moved = old - t * (load(g.cost + j) + flow);
                const m8 support = old > 1e-3f;
                v[2 * k + b] = moved;
                top = larger(top, moved);
                held += (v8)((m8)moved & support);
                kept -= support;
            }
            // The threshold that any set of entries would have bounds the true one from below:
            // the largest entry's, and that of the old support, which is most often right.
            const v8 bound = (held - 1.0f) / __builtin_convertvector(kept, v8);
            theta[b] = larger(kept > 0 ? bound : top - 1.0f, top - 1.0f);
            count[b] = m8{};
        }
        // Newton's steps from below on sum(max(v - theta, 0)) = 1: exact once the set of positive
        // entries stays the same.
        for (int pass = 0; pass < 64; ++pass) {
            m8 changed = {};
            v8 sum[2] = {};
            m8 found[2] = {};
            for (int k = 0; k < classes; ++k)
                for (int b = 0; b < 2; ++b) {
                    const v8 over = v[2 * k + b] - theta[b];
                    const m8 positive = over > 0.0f;
                    sum[b] += (v8)((m8)over & positive);
                    found[b] -= positive;
                }
            for (int b = 0; b < 2; ++b) {
                const v8 excess = sum[b] - 1.0f;
                changed |= (found[b] != count[b]) & (excess > 1e-6f);
                count[b] = found[b];
                theta[b] += excess / __builtin_convertvector(found[b], v8);
            }
            if (!any(changed)) break;
        }
        for (int k = 0; k < classes; ++k)
            for (int b = 0; b < 2; ++b) {
                const std::size_t i = x + b * kLanes, j = at + k * s + i;
                const v8 old = load(g.u + j), now = larger(v[2 * k + b] - theta[b], v8{});
                store(bar + k * s + i, now + (now - old));
                store(g.u + j, plain ? now : old + relax * (now - old));
            }
    }
}

// p <- unit-ball projection of p + sigma K bar; one row, with the row below it.
template <int KC, bool ISO>
INLINE void dual_row(const Grid& g, int y, float relax, const float* bar, const float* below) {
    const int classes = KC ? KC : g.classes;
    const std::size_t s = g.stride, at = g.row(y);
    const float hy = y + 1 < g.height ? 0.5f : 0.0f;
    const bool plain = relax == 1.0f;
    const v8 one = v8{} + 1.0f;
    for (int k = 0; k < classes; ++k)
        for (std::size_t x = 0; x < s; x += kLanes) {
            const std::size_t j = at + k * s + x;
            const v8 here = load(bar + k * s + x), ox = load(g.px + j), oy = load(g.py + j);
            v8 qx = ox + load(g.hx + x) * (load(bar + k * s + x + 1) - here);
            v8 qy = oy + hy * (load(below + k * s + x) - here);
            if (ISO) {
                const v8 square = qx * qx + qy * qy;
                if (any(square > one)) {
                    const v8 shrink = one / larger(root(square), one);
                    qx *= shrink;
                    qy *= shrink;
                }
            } else {
                qx = smaller(larger(qx, -one), one);
                qy = smaller(larger(qy, -one), one);
            }
            store(g.px + j, plain ? qx : ox + relax * (qx - ox));
            store(g.py + j, plain ? qy : oy + relax * (qy - oy));
        }
}

// Primal energy of u and dual energy of p, one row: the two totals.
template <bool ISO>
INLINE void energy_row(const Grid& g, int y, double* totals) {
    const int classes = g.classes;
    const std::size_t s = g.stride, at = g.row(y), above = g.row(std::max(y - 1, 0)),
                      below = g.row(std::min(y + 1, g.height - 1));
    const float *wx = g.wx + y * s, *wy = g.wy + y * s, *wu = wy - s;
    d8 sums = {}, lows = {};
    for (std::size_t x = 0; x < s; x += kLanes) {
        const v8 wr = load(wx + x), wl = load(wx + x - 1), wd = load(wy + x), wt = load(wu + x);
        v8 sum = {}, low = v8{} + 1e38f;
        for (int k = 0; k < classes; ++k) {
            const std::size_t c = k * s + x, j = at + c;
            const v8 here = load(g.u + j), cost = load(g.cost + j);
            const v8 gx = wr * (load(g.u + j + 1) - here), gy = wd * (load(g.u + below + c) - here);
            const v8 length = ISO ? root(gx * gx + gy * gy) : magnitude(gx) + magnitude(gy);
            const v8 flow = wl * load(g.px + j - 1) - wr * load(g.px + j)
                + (wt * load(g.py + above + c) - wd * load(g.py + j));
            sum += cost * here + length;
            low = smaller(low, cost + flow);
        }
        sums += __builtin_convertvector(sum, d8);
        lows += __builtin_convertvector(low, d8);
    }
    totals[0] = totals[1] = 0.0;
    for (int i = 0; i < kLanes; ++i) {
        totals[0] += sums[i];
        totals[1] += lows[i];
    }
}

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
