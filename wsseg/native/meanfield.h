// Mean-field inference of a dense CRF (Kraehenbuehl and Koltun, 2011) over one image.
//
// The planes (K, H, W) hold the logarithms of the unary terms until the last pass puts the result
// in their place. Each pass reads the blurred tables of the last iteration and fills those of the
// next: per pixel, slice -> softmax -> splat while its row of K values is in registers.
#pragma once

#include "filter.h"

namespace wsseg {

// One Gaussian kernel: its lattice, and the tables that passes read from and add to.
struct Kernel {
    Kernel(const Tiling& tiling, const Keys& keys) : lattice(tiling, keys) {}
    Lattice lattice;
    Table from, to;
};

struct Field {
    const Tiling& tiling;
    float* planes;
    int64_t classes;
    size_t stride;  // of table rows, in bytes
    Kernel* gauss;  // either may be missing
    Kernel* rgb;
    bool first, last;
    float* planes_at(int64_t k) const { return planes + k * tiling.height * tiling.width; }
};

const float never = -1e30f;  // the logarithm of what padding gets

template <class F> INLINE F load_some(const float* from, int n) {
    F x = {};
    if (n >= Vector<F>::lanes) return load<F>(from);
    if (n > 0) std::memcpy(&x, from, size_t(n) * sizeof(float));
    return x;
}

// Rows of `width` floats for eight pixels from planes.
template <class F>
INLINE void gather(const Field& f, int64_t pixel, int n, int width, float* rows) {
    const int lanes = Vector<F>::lanes;
    for (int64_t k = 0; k < f.classes; ++k)  // for the tile after the next
        __builtin_prefetch(f.planes_at(k) + pixel + 16);
    for (int k = 0; k < width; k += lanes)
        for (int p = 0; p < 8; p += lanes) {
            F block[lanes];
            for (int i = 0; i < lanes; ++i)
                block[i] = k + i < f.classes ? load_some<F>(f.planes_at(k + i) + pixel + p, n - p)
                                             : F{} + never;
            transpose(block);
            for (int i = 0; i < lanes; ++i) store(rows + (p + i) * width + k, block[i]);
        }
}

template <class F>
INLINE void scatter(const Field& f, int64_t pixel, int n, int width, const float* rows) {
    const int lanes = Vector<F>::lanes;
    for (int k = 0; k < width; k += lanes)
        for (int p = 0; p < n; p += lanes) {
            F block[lanes];
            for (int i = 0; i < lanes; ++i) block[i] = load<F>(rows + (p + i) * width + k);
            transpose(block);
            const size_t bytes = size_t(std::min(lanes, n - p)) * sizeof(float);
            for (int i = 0; i < lanes && k + i < f.classes; ++i)
                std::memcpy(f.planes_at(k + i) + pixel + p, &block[i], bytes);
        }
}

template <class F, int V> INLINE void softmax(F* x, int vectors) {
    const int n = V ? V : vectors;
    F top = x[0], sum = {};
    for (int v = 1; v < n; ++v) top = larger(top, x[v]);
    top = all_max(top);
    for (int v = 0; v < n; ++v) {
        x[v] = exp(x[v] - top);
        sum += x[v];
    }
    const F scale = 1.0f / all_sum(sum);
    for (int v = 0; v < n; ++v) x[v] = x[v] * scale;
}

// As slice and splat; V = 0: rows of `vectors` vectors.
template <class F, int V, int N>
INLINE void slice_row(const uint32_t* slot, const char* table, F* to, int vectors) {
    if (V) return slice<F, V ? V : 1, N>(slot, table, to);
    int v = 0;
    for (; v + 4 <= vectors; v += 4) slice<F, 4, N>(slot, table + v * sizeof(F), to + v);
    for (; v < vectors; ++v) slice<F, 1, N>(slot, table + v * sizeof(F), to + v);
}

template <class F, int V, int N>
INLINE void splat_row(const uint32_t* slot, const F* from, char* table, int vectors) {
    if (V) return splat<F, V ? V : 1, N>(slot, from, table);
    int v = 0;
    for (; v + 4 <= vectors; v += 4) splat<F, 4, N>(slot, from + v, table + v * sizeof(F));
    for (; v < vectors; ++v) splat<F, 1, N>(slot, from + v, table + v * sizeof(F));
}

// One kernel's part of a strip.
struct View {
    View(Kernel* kernel, size_t index, size_t stride)
        : strip(kernel ? &kernel->lattice.strip(index) : nullptr) {
        if (!kernel) return;
        slot = kernel->lattice.slots(index);
        from = kernel->from.data() + strip->first * stride;
        to = kernel->to.data() + strip->first * stride;
    }
    // Rows are numbered as they are met: those first met in a band are cleared just before it,
    // so that they are still in cache when it adds to them.
    void clear(int64_t band, size_t stride) const {
        if (!strip) return;
        const uint32_t* met = &strip->band_rows[size_t(band)];
        std::memset(to + met[0] * stride, 0, (met[1] - met[0]) * stride);
    }
    const Strip* strip;
    const uint32_t* slot = nullptr;
    const char* from = nullptr;
    char* to = nullptr;
};

// One strip of a pass. V: vectors in a row, 0 if only known at run time.
template <class F, int V> INLINE void pass(const Field& f, size_t strip) {
    const int vectors = V ? V : int(f.stride / sizeof(F)), width = vectors * Vector<F>::lanes;
    const Tiling& t = f.tiling;
    View gauss(f.gauss, strip, f.stride), rgb(f.rgb, strip, f.stride);
    alignas(64) float fixed[8 * (V ? V : 1) * Vector<F>::lanes];
    Table wide(V ? 64 : 8 * f.stride);
    float* rows = V ? fixed : reinterpret_cast<float*>(wide.data());
    const int64_t low = t.first_band(int64_t(strip)), high = t.first_band(int64_t(strip) + 1);
    for (int64_t b = low; b < high; ++b) {
        if (!f.last) {
            gauss.clear(b - low, f.stride);
            rgb.clear(b - low, f.stride);
        }
        for (int64_t x = 0; x < t.width; x += 8)
            for (int64_t y = t.first_row(b); y < t.first_row(b + 1); ++y) {
                const int n = int(std::min<int64_t>(8, t.width - x));
                gather<F>(f, y * t.width + x, n, width, rows);
                for (int p = 0; p < n; ++p) {
                    F held[V ? V : 1];
                    F* q = V ? held : reinterpret_cast<F*>(rows + p * width);
                    if (V) std::memcpy(held, rows + p * width, sizeof held);
                    if (!f.first) {
                        if (f.gauss) slice_row<F, V, 3>(gauss.slot + p * 6, gauss.from, q, vectors);
                        if (f.rgb) slice_row<F, V, 6>(rgb.slot + p * 12, rgb.from, q, vectors);
                    }
                    softmax<F, V>(q, vectors);
                    if (f.last) {
                        if (V) std::memcpy(rows + p * width, held, sizeof held);
                    } else {
                        if (f.gauss) splat_row<F, V, 3>(gauss.slot + p * 6, q, gauss.to, vectors);
                        if (f.rgb) splat_row<F, V, 6>(rgb.slot + p * 12, q, rgb.to, vectors);
                    }
                }
                if (f.last) scatter<F>(f, y * t.width + x, n, width, rows);
                if (f.gauss) gauss.slot += 8 * 6;
                if (f.rgb) rgb.slot += 8 * 12;
            }
    }
}

}  // namespace wsseg
