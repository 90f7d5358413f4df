// What moves values over a lattice: splat, blur and slice of rows of V vectors of type F.
#pragma once

#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "lattice.h"

namespace wsseg {

// Memory for rows, aligned for vectors and not written before it is used.
class Table {
public:
    Table() = default;
    explicit Table(size_t bytes) : unit_(bytes < huge_ * 4 ? 64 : huge_) {
        bytes = (bytes + unit_) / unit_ * unit_;
        data_ = static_cast<char*>(::operator new(bytes, std::align_val_t(unit_)));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
        if (unit_ == huge_) madvise(data_, bytes, MADV_HUGEPAGE);  // a hint: may be refused
#endif
    }
    ~Table() { ::operator delete(data_, std::align_val_t(unit_)); }
    Table(const Table&) = delete;
    Table& operator=(Table&& other) noexcept {
        swap(other);
        return *this;
    }
    void swap(Table& other) {
        std::swap(data_, other.data_);
        std::swap(unit_, other.unit_);
    }
    char* data() const { return data_; }

private:
    static const size_t huge_ = size_t(2) << 20;
    char* data_ = nullptr;
    size_t unit_ = 64;
};

// new = old + (previous + next) / 2 along each chain of some blocks, in place.
template <class F, int V>
INLINE void blur(const Chains& chains, size_t block, char* table, size_t stride) {
    const int lanes = Vector<F>::lanes;
    for (size_t r = chains.blocks[block]; r < chains.blocks[block + 1]; ++r) {
        const Chains::Run& run = chains.runs[r];
        const uint32_t* id = chains.rows.data() + run.first;
        for (uint32_t c = 0; c < run.count; ++c, ++id) {
            F before[V], here[V];
            float* row = reinterpret_cast<float*>(table + *id * stride);
            for (int v = 0; v < V; ++v) {
                before[v] = F{};
                here[v] = load<F>(row + v * lanes);
            }
            for (uint32_t i = 1; i < run.length; ++i) {
                float* after = reinterpret_cast<float*>(table + *++id * stride);
                for (int v = 0; v < V; ++v) {
                    F next = load<F>(after + v * lanes);
                    store(row + v * lanes, here[v] + (before[v] + next) * 0.5f);
                    before[v] = here[v];
                    here[v] = next;
                }
                row = after;
            }
            for (int v = 0; v < V; ++v) store(row + v * lanes, here[v] + before[v] * 0.5f);
        }
    }
}

inline void blur_scalars(const Chains& chains, size_t block, float* table) {
    for (size_t r = chains.blocks[block]; r < chains.blocks[block + 1]; ++r) {
        const Chains::Run& run = chains.runs[r];
        const uint32_t* id = chains.rows.data() + run.first;
        for (uint32_t c = 0; c < run.count; ++c) {
            float before = 0.0f, here = table[*id];
            for (uint32_t i = 1; i < run.length; ++i, ++id) {
                const float next = table[id[1]];
                table[*id] = here + (before + next) * 0.5f;
                before = here;
                here = next;
            }
            table[*id++] = here + before * 0.5f;
        }
    }
}

// slot: N offsets of rows in bytes, then N weights.
template <class F, int V, int N>
INLINE void slice(const uint32_t* slot, const char* table, F* to) {
    const float* weight = reinterpret_cast<const float*>(slot) + N;
#pragma GCC unroll 16
    for (int k = 0; k < N; ++k) {
        const float* row = reinterpret_cast<const float*>(table + slot[k]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) to[v] += weight[k] * load<F>(row + v * Vector<F>::lanes);
    }
}

template <class F, int V, int N>
INLINE void splat(const uint32_t* slot, const F* from, char* table) {
    const float* weight = reinterpret_cast<const float*>(slot) + N;
#pragma GCC unroll 16
    for (int k = 0; k < N; ++k) {
        float* row = reinterpret_cast<float*>(table + slot[k]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            float* at = row + v * Vector<F>::lanes;
            store(at, load<F>(at) + weight[k] * from[v]);
        }
    }
}

// Factor that makes blurs along d + 1 axes keep the sum of values about as it was.
inline float blur_scale(int d) { return 1.0f / (1.0f + std::pow(2.0f, -float(d))); }

}  // namespace wsseg
