// The row kernels of the Potts solver: vectors of eight, the primal step, the dual step, energies.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#if defined(__x86_64__) || defined(__i386__)
#include <xmmintrin.h>
#define WSSEG_X86 1
#endif

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

}  // namespace
