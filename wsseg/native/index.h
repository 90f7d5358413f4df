// Lattice points as numbers: packed keys, and the rows of a table that belong to them.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace wsseg {

const int max_d = 16;

// Lattice points as 64-bit keys. Neighbours differ by constants; margins keep keys from wrapping.
struct Keys {
    int d;
    float scale[max_d];
    int64_t stride[max_d + 1], low[max_d], ones;

    // low and high bound the features.
    Keys(int dims, const float* lowest, const float* highest) : d(dims) {
        double least[max_d + 1] = {0}, most[max_d + 1] = {0};
        const float spread = float((d + 1) * std::sqrt(2.0 / 3));  // the blurs' standard deviation
        for (int i = 0; i < d; ++i) {
            scale[i] = float(1 / std::sqrt((i + 1.0) * (i + 2)) * spread);
            double a = double(lowest[i]) * scale[i], b = double(highest[i]) * scale[i];
            if (!(std::fabs(a) < 1 << 21 && std::fabs(b) < 1 << 21)) too_fine();
            for (int j = 0; j <= i; ++j) { least[j] += a; most[j] += b; }
            least[i + 1] -= (i + 1) * b;
            most[i + 1] -= (i + 1) * a;
        }
        double cells = 1;
        ones = 0;
        for (int i = 0; i < d; ++i) {
            low[i] = int64_t(std::floor(least[i])) - 4 * (d + 1);
            stride[i] = int64_t(cells);
            ones += stride[i];
            cells *= std::ceil(most[i]) - low[i] + 4 * (d + 1);
            if (cells > 4e18) too_fine();
        }
        stride[d] = 0;
    }

    // From a lattice point to its neighbour along an axis (0 ... d).
    int64_t step(int axis) const { return ones - (d + 1) * stride[axis]; }

    [[noreturn]] static void too_fine() {
        throw std::domain_error("the features span more lattice cells than can be numbered: "
                                "a standard deviation is too small");
    }
};

// Rows of keys, by open addressing. Entries hold a row and 32 bits of its key's hash: a small
// table misses the cache less often than the keys themselves would.
class Index {
public:
    explicit Index(size_t expected) {
        size_t size = 64;
        while (size < expected * 2) size *= 2;
        reset(size);
    }
    void prefetch(uint64_t key) const { __builtin_prefetch(&entries_[hash(key) >> shift_]); }

    // The row of a key, or `absent`. keys: those of all rows.
    uint32_t find(uint64_t key, const uint64_t* keys) const {
        return uint32_t(entries_[place(key, keys)]);
    }
    // The row of a key; a new key gets `row`.
    uint32_t add(uint64_t key, uint32_t row, const uint64_t* keys) {
        size_t at = place(key, keys);
        if (entries_[at] != none) return uint32_t(entries_[at]);
        if (++used_ * 3 > entries_.size() * 2) {
            grow(keys);
            at = place(key, keys);
        }
        entries_[at] = tag(hash(key)) | row;
        return row;
    }
    static constexpr uint32_t absent = ~uint32_t(0);

private:
    static constexpr uint64_t none = ~uint64_t(0);

    static uint64_t hash(uint64_t key) { return key * 0x9e3779b97f4a7c15u; }
    static uint64_t tag(uint64_t h) { return (h << 24) & ~uint64_t(absent); }

    // Where the key is, or where it would go.
    size_t place(uint64_t key, const uint64_t* keys) const {
        const uint64_t h = hash(key), wanted = tag(h);
        for (size_t at = h >> shift_;; at = (at + 1) & mask_) {
            const uint64_t entry = entries_[at];
            if (entry == none) return at;
            if ((entry & ~uint64_t(absent)) == wanted && keys[uint32_t(entry)] == key) return at;
        }
    }
    void reset(size_t size) {
        entries_.assign(size, none);
        mask_ = size - 1;
        shift_ = 64 - __builtin_ctzll(size);
        used_ = 0;
    }
    void grow(const uint64_t* keys) {
        const std::vector<uint64_t> old = std::move(entries_);
        const size_t used = used_;
        reset(old.size() * 2);
        used_ = used;
        for (uint64_t entry : old)
            if (entry != none) entries_[place(keys[uint32_t(entry)], keys)] = entry;
    }
    std::vector<uint64_t> entries_;
    size_t mask_, used_;
    int shift_;
};

}  // namespace wsseg
