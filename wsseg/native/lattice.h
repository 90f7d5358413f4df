// The permutohedral lattice of Adams, Baek and Davis (2010): which simplex encloses a point, with
// which weights, and which lattice points are neighbours along each axis.
//
// Points are handled in groups of eight. An image is cut into strips, always the same ones for the
// same size, so that results do not depend on the number of threads. Each strip numbers the lattice
// points (rows of a table) in the order in which it meets them; a lattice point that several strips
// meet has its owner in the first of them, and copies in the others.
#pragma once

#include <algorithm>
#include <memory>

#include "index.h"
#include "simd.h"

namespace wsseg {

// Where points lie: rows of groups of eight, in bands of rows, in strips of bands.
struct Tiling {
    int64_t height, width, tiles, band, bands, strips;

    Tiling(int64_t h, int64_t w, int64_t band_rows, int64_t strip_points)
        : height(h), width(w), tiles((w + 7) / 8), band(band_rows), bands((h + band - 1) / band) {
        strips = std::max<int64_t>(1, std::min<int64_t>({32, bands, h * w / strip_points}));
    }
    int64_t first_band(int64_t strip) const { return bands * strip / strips; }
    int64_t first_row(int64_t b) const { return std::min(b * band, height); }
    int64_t slots() const { return height * tiles * 8; }
};

// Chains of neighbours along one axis: `count` chains of `length` rows each, in blocks of runs.
struct Chains {
    struct Run { uint32_t length, count; size_t first; };
    std::vector<uint32_t> rows;
    std::vector<Run> runs;
    std::vector<size_t> blocks{0};
};

struct Copy { uint32_t row, owner; };

// The simplices of eight points: weights and keys of their d + 1 corners.
struct Simplices {
    float weight[max_d + 1][8];
    int32_t base[max_d + 1][8], rank[max_d + 1][8];
};

// D: the dimension if known when compiling, else 0.
template <int D> INLINE void locate(const Keys& keys, const f8* feature, Simplices& out) {
    const int d = D ? D : keys.d;
    f8 at[(D ? D : max_d) + 1], rest[(D ? D : max_d) + 1], sum = {}, total = {};
    i8 rank[(D ? D : max_d) + 1];
    for (int j = d; j > 0; --j) {
        f8 c = feature[j - 1] * keys.scale[j - 1];
        at[j] = sum - c * float(j);
        sum += c;
    }
    at[0] = sum;
    for (int i = 0; i <= d; ++i) {
        f8 n = nearest(at[i] * (1.0f / float(d + 1)));
        total += n;
        rest[i] = at[i] - n * float(d + 1);
        rank[i] = __builtin_convertvector(n, i8) * (d + 1);
        std::memcpy(out.base[i], &rank[i], sizeof rank[i]);
        rank[i] = i8{};
    }
    for (int i = 0; i <= d; ++i)
        for (int j = i + 1; j <= d; ++j) {
            i8 less = rest[i] < rest[j];
            rank[i] -= less;
            rank[j] -= ~less;
        }
    // The rounded point may lie off the plane of the lattice by `shift`: bring it back.
    i8 shift = __builtin_convertvector(total, i8);
    f8 sorted[(D ? D : max_d) + 1];
    for (int r = 0; r <= d; ++r) sorted[r] = f8{};
    for (int i = 0; i <= d; ++i) {
        i8 r = rank[i] + shift, base;
        i8 move = ((r < 0) & (d + 1)) - ((r > d) & (d + 1));
        r += move;
        std::memcpy(&base, out.base[i], sizeof base);
        base += move;
        std::memcpy(out.base[i], &base, sizeof base);
        std::memcpy(out.rank[i], &r, sizeof r);
        f8 v = (at[i] - __builtin_convertvector(base, f8)) * (1.0f / float(d + 1));
        for (int k = 0; k <= d; ++k) sorted[k] += r == k ? v : f8{};
    }
    store(out.weight[0], sorted[d] + 1.0f - sorted[0]);
    for (int k = 1; k <= d; ++k) store(out.weight[k], sorted[d - k] - sorted[d - k + 1]);
}

// Keys of the corners of one of eight simplices. From corner k - 1 to corner k all coordinates
// grow by one, but the one of rank d - k + 1 falls by d.
template <int D>
INLINE void corner_keys(const Keys& keys, const Simplices& s, int lane, uint64_t* out) {
    const int d = D ? D : keys.d;
    int64_t key = 0, stride[(D ? D : max_d) + 1];
    for (int i = 0; i <= d; ++i) stride[s.rank[i][lane]] = keys.stride[i];
    for (int i = 0; i < d; ++i) key += (s.base[i][lane] - keys.low[i]) * keys.stride[i];
    out[0] = uint64_t(key);
    for (int k = 1; k <= d; ++k) {
        key += keys.ones - (d + 1) * stride[d - k + 1];
        out[k] = uint64_t(key);
    }
}

struct Strip {
    explicit Strip(size_t expected) : index(expected) { keys.reserve(expected); }
    Index index;
    std::vector<uint64_t> keys;       // by row, until the strips are joined
    std::vector<float> ones;          // by row: sum of the weights
    std::vector<uint32_t> band_rows;  // number of rows before each band, and after the last
    size_t first = 0;                 // of its rows among all
    const uint32_t* last = nullptr;   // slot of the last simplex, and its keys
    uint64_t last_keys[max_d + 1];
};

class Lattice {
public:
    Lattice(const Tiling& tiling, const Keys& keys)
        : tiling_(tiling), keys_(keys), corners_(keys.d + 1),
          slots_(new uint32_t[size_t(tiling.slots()) * 2 * corners_]), chains_(corners_) {
        strips_.reserve(size_t(tiling.strips));
        const size_t expected = size_t(tiling.height * tiling.width / tiling.strips) / 2 + 64;
        for (int64_t s = 0; s < tiling.strips; ++s) strips_.emplace_back(expected);
    }

    // Find the simplices of a strip's points. Source: fill(y, x, f8 features[d]) for 8 points.
    template <int D, class Source> INLINE void enter(size_t s, const Source& source) {
        const int n = D ? D + 1 : corners_, batch = 8;
        Strip& strip = strips_[s];
        uint64_t found[batch * 8 * ((D ? D : max_d) + 1)];
        Simplices simplices;
        f8 feature[D ? D : max_d];
        uint32_t* slot = slots(s);
        for (int64_t b = tiling_.first_band(s); b < tiling_.first_band(s + 1); ++b) {
            strip.band_rows.push_back(uint32_t(strip.keys.size()));
            const int64_t y0 = tiling_.first_row(b), y1 = tiling_.first_row(b + 1);
            const int64_t groups = (y1 - y0) * tiling_.tiles;
            for (int64_t g = 0; g < groups; g += batch) {
                const int64_t end = std::min(g + batch, groups);
                uint64_t* key = found;
                for (int64_t i = g; i < end; ++i) {
                    source.fill(y0 + i % (y1 - y0), i / (y1 - y0) * 8, feature);
                    locate<D>(keys_, feature, simplices);
                    float* weight = reinterpret_cast<float*>(slot + (i - g) * 16 * n + n);
                    for (int p = 0; p < 8; ++p, key += n, weight += 2 * n) {
                        corner_keys<D>(keys_, simplices, p, key);
                        for (int k = 0; k < n; ++k) {
                            weight[k] = simplices.weight[k][p];
                            strip.index.prefetch(key[k]);
                        }
                    }
                }
                key = found;
                for (int64_t i = g; i < end; ++i) {
                    const int64_t x = i / (y1 - y0) * 8;
                    const int points = int(std::min<int64_t>(8, tiling_.width - x));
                    for (int p = 0; p < 8; ++p, key += n, slot += 2 * n)
                        number(strip, key, p < points ? n : 0, slot);
                }
            }
        }
        strip.band_rows.push_back(uint32_t(strip.keys.size()));
    }

    // Join the strips: rows of all, owners of copies.
    void join();

    // Find the neighbours along one axis; independent of the other axes.
    void link(int axis);

    int corners() const { return corners_; }
    size_t rows() const { return rows_; }
    const Tiling& tiling() const { return tiling_; }
    const Strip& strip(size_t s) const { return strips_[s]; }
    size_t rows(size_t s) const { return strips_[s].ones.size(); }
    const Chains& chains(int axis) const { return chains_[size_t(axis)]; }
    const std::vector<Copy>& copies() const { return copies_; }

    // Of each point of a strip: corners() row numbers, then corners() weights.
    uint32_t* slots(size_t s) const {
        return slots_.get() + tiling_.first_row(tiling_.first_band(int64_t(s))) * tiling_.tiles
            * 16 * corners_;
    }
    // Of points, chains and two tables.
    double bytes(size_t stride) const {
        return double(tiling_.slots()) * 8 * corners_
            + double(rows_) * (8.0 * corners_ + 2.0 * double(stride));
    }
    // The sum of weights in each row.
    std::vector<float> ones() const {
        std::vector<float> all;
        for (const Strip& s : strips_) all.insert(all.end(), s.ones.begin(), s.ones.end());
        return all;
    }
    void forget() {  // when all axes are linked
        index_.reset();
        all_ = std::vector<uint64_t>();
    }

private:
    void number(Strip& strip, const uint64_t* key, int n, uint32_t* slot) {
        const float* weight = reinterpret_cast<float*>(slot) + corners_;
        if (!n) std::memset(slot, 0, size_t(corners_) * 2 * sizeof *slot);
        for (int k = 0; k < n; ++k) {
            const uint32_t next = uint32_t(strip.keys.size());
            const uint32_t row = strip.index.add(key[k], next, strip.keys.data());
            if (row == next) {
                strip.keys.push_back(key[k]);
                strip.ones.push_back(0.0f);
            }
            strip.ones[row] += weight[k];
            slot[k] = row;
        }
    }

    Tiling tiling_;
    Keys keys_;
    int corners_;
    std::unique_ptr<uint32_t[]> slots_;
    std::vector<Strip> strips_;
    std::vector<Copy> copies_;
    std::vector<Chains> chains_;
    std::unique_ptr<Index> index_;
    std::vector<uint64_t> all_;  // keys by row
    size_t rows_ = 0;
};

inline void Lattice::join() {
    index_.reset(new Index(std::move(strips_[0].index)));  // its rows keep their numbers
    all_.swap(strips_[0].keys);
    for (size_t s = 1; s < strips_.size(); ++s) {
        strips_[s].first = all_.size();
        all_.insert(all_.end(), strips_[s].keys.begin(), strips_[s].keys.end());
        strips_[s].keys = std::vector<uint64_t>();
        strips_[s].index = Index(0);
    }
    rows_ = all_.size();
    if (rows_ >= Index::absent) throw std::length_error("more than 4e9 lattice points");
    std::vector<Copy> found;
    const size_t ahead = 16;
    for (size_t i = strips_.size() > 1 ? strips_[1].first : rows_; i < rows_; ++i) {
        if (i + ahead < rows_) index_->prefetch(all_[i + ahead]);
        const uint32_t row = uint32_t(i), owner = index_->add(all_[i], row, all_.data());
        if (owner != row) found.push_back({row, owner});
    }
    // Sorted by owner, and by row within: then any split of the list between owners is safe.
    std::vector<uint32_t> start(rows_ + 1, 0);
    for (const Copy& c : found) ++start[c.owner + 1];
    for (size_t i = 1; i <= rows_; ++i) start[i] += start[i - 1];
    copies_.resize(found.size());
    for (const Copy& c : found) copies_[start[c.owner]++] = c;
}

inline void Lattice::link(int axis) {
    const uint32_t absent = Index::absent;
    const uint64_t step = uint64_t(keys_.step(axis));
    const size_t ahead = 16;
    std::vector<uint32_t> next(rows_);
    std::vector<uint8_t> follows(rows_, 0);
    for (size_t i = 0; i < rows_; ++i) {
        if (i + ahead < rows_) index_->prefetch(all_[i + ahead] + step);
        next[i] = index_->find(all_[i] + step, all_.data());
    }
    for (const Copy& c : copies_) next[c.row] = absent;
    for (uint32_t to : next)
        if (to != absent) follows[to] = 1;

    // Chains that start in one block of rows are sorted by length: loops become predictable.
    Chains& chains = chains_[size_t(axis)];
    chains.rows.reserve(rows_);
    const size_t block = 4096;
    struct Start { uint32_t row, length; };
    std::vector<Start> starts, sorted;
    std::vector<uint32_t> place;
    for (size_t low = 0; low < rows_; low += block) {
        starts.clear();
        place.assign(place.size(), 0);
        for (size_t row = low; row < std::min(low + block, rows_); ++row) {
            if (follows[row] || next[row] == absent) continue;
            uint32_t length = 1;
            for (uint32_t at = uint32_t(row); (at = next[at]) != absent;) ++length;
            starts.push_back({uint32_t(row), length});
            if (place.size() <= length + 1) place.resize(length + 2, 0);
            ++place[length + 1];
        }
        for (size_t i = 1; i < place.size(); ++i) place[i] += place[i - 1];
        sorted.resize(starts.size());
        for (const Start& start : starts) sorted[place[start.length]++] = start;
        for (const Start& start : sorted) {
            const bool new_block = chains.runs.size() == chains.blocks.back();
            if (new_block || chains.runs.back().length != start.length)
                chains.runs.push_back({start.length, 0, chains.rows.size()});
            ++chains.runs.back().count;
            for (uint32_t at = start.row; at != absent; at = next[at]) chains.rows.push_back(at);
        }
        chains.blocks.push_back(chains.runs.size());
    }
}

}  // namespace wsseg
