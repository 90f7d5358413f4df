// The phases of inference, and which of them run side by side.
#pragma once

#include <cstdio>
#include <string>

#include "crew.h"
#include "meanfield.h"

namespace wsseg {

// Needs more memory than the caller allows.
struct TooLarge : std::exception {
    explicit TooLarge(double bytes) {
        char words[64];
        std::snprintf(words, sizeof words, "needs about %.1f GB", bytes * 1e-9);
        text = words;
    }
    const char* what() const noexcept override { return text.c_str(); }
    std::string text;
};

// Features of the Gaussian kernel: position in standard deviations.
struct Position {
    const Tiling& tiling;
    float sigma[2];  // x, y
    static const int d = 2;
    INLINE void fill(int64_t y, int64_t x, f8* out) const {
        const f8 lane = {0, 1, 2, 3, 4, 5, 6, 7};
        out[0] = (lane + float(x)) / sigma[0];
        out[1] = (f8{} + float(y)) / sigma[1];
    }
    std::vector<float> highest() const {
        return {float(tiling.tiles * 8) / sigma[0], float(tiling.height) / sigma[1]};
    }
};

// Features of the appearance kernel: position and colour.
struct Appearance {
    Position position;
    const uint8_t* image;  // (H, W, 3)
    float sigma[3];
    static const int d = 5;
    INLINE void fill(int64_t y, int64_t x, f8* out) const {
        position.fill(y, x, out);
        const int64_t width = position.tiling.width;
        const uint8_t* row = image + y * width * 3;
        float colour[3][8];
        for (int p = 0; p < 8; ++p)
            for (int c = 0; c < 3; ++c) colour[c][p] = row[std::min(x + p, width - 1) * 3 + c];
        for (int c = 0; c < 3; ++c) out[2 + c] = load<f8>(colour[c]) / sigma[c];
    }
    std::vector<float> highest() const {
        std::vector<float> top = position.highest();
        for (int c = 0; c < 3; ++c) top.push_back(255.0f / sigma[c]);
        return top;
    }
};

template <class Source> Keys keys_of(const Source& source) {
    const float zeros[max_d] = {0};
    return Keys(Source::d, zeros, source.highest().data());
}

// What is compiled once for AVX2 and once for any machine.
typedef void (*PassStrip)(const Field&, size_t);
typedef void (*BlurBlock)(const Chains&, size_t, char*, size_t);

template <class F, int V> void pass_any(const Field& f, size_t s) { pass<F, V>(f, s); }
template <class F, int V>
INLINE void blur_row(const Chains& chains, size_t block, char* table, size_t stride) {
    if (V) return blur<F, V ? V : 1>(chains, block, table, stride);
    size_t at = 0;
    for (; at + 4 * sizeof(F) <= stride; at += 4 * sizeof(F))
        blur<F, 4>(chains, block, table + at, stride);
    for (; at < stride; at += sizeof(F)) blur<F, 1>(chains, block, table + at, stride);
}
template <class F, int V> void blur_any(const Chains& c, size_t block, char* table, size_t stride) {
    blur_row<F, V>(c, block, table, stride);
}
template <int D, class Source> void enter_any(Lattice& l, size_t s, const Source& source) {
    l.enter<D>(s, source);
}
// Logarithms of probabilities clipped to [clip, 1].
INLINE void log_some(const float* p, float* to, size_t n, float clip) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        f8 x = load<f8>(p + i);
        x = larger(x, f8{} + clip);
        store(to + i, log(x > 1.0f ? f8{} + 1.0f : x));
    }
    for (; i < n; ++i) to[i] = std::log(std::min(std::max(p[i], clip), 1.0f));
}
inline void log_any(const float* p, float* to, size_t n, float clip) { log_some(p, to, n, clip); }

#ifdef WSSEG_HAS_AVX2
template <class F, int V> AVX2 void pass_avx2(const Field& f, size_t s) { pass<F, V>(f, s); }
template <class F, int V>
AVX2 void blur_avx2(const Chains& c, size_t block, char* table, size_t stride) {
    blur_row<F, V>(c, block, table, stride);
}
// Without fused multiply-add: a point on the border of two simplices must not change sides.
template <int D, class Source>
__attribute__((target("avx2"))) void enter_avx2(Lattice& l, size_t s, const Source& source) {
    l.enter<D>(s, source);
}
AVX2 inline void log_avx2(const float* p, float* to, size_t n, float clip) {
    log_some(p, to, n, clip);
}
#define PICK(name) (has_avx2() ? name##_avx2 : name##_any)
#define PICK2(name, F, V) (has_avx2() ? name##_avx2<F, V> : name##_any<F, V>)
#else
#define PICK(name) name##_any
#define PICK2(name, F, V) name##_any<F, V>
#endif

struct Rows {  // how K values are kept in a table
    size_t stride;
    PassStrip pass;
    BlurBlock blur;

    explicit Rows(int64_t k) : stride(size_t(k <= 4 ? 16 : (k + 7) / 8 * 32)) {
        if (k <= 4) { pass = PICK2(pass, f4, 1); blur = PICK2(blur, f4, 1); }
        else if (k <= 8) { pass = PICK2(pass, f8, 1); blur = PICK2(blur, f8, 1); }
        else if (k <= 16) { pass = PICK2(pass, f8, 2); blur = PICK2(blur, f8, 2); }
        else if (k <= 24) { pass = PICK2(pass, f8, 3); blur = PICK2(blur, f8, 3); }
        else if (k <= 32) { pass = PICK2(pass, f8, 4); blur = PICK2(blur, f8, 4); }
        else { pass = PICK2(pass, f8, 0); blur = PICK2(blur, f8, 0); }
    }
};

class Inference {
public:
    // planes: logarithms of the unary terms, (K, H, W); the result takes their place.
    Inference(float* planes, int64_t classes, const Tiling& tiling, Crew& crew)
        : tiling_(tiling), crew_(crew), rows_(classes),
          field_{tiling, planes, classes, rows_.stride, nullptr, nullptr, true, false} {}

    void add(const Position& source, float weight) { build(source, weight, gauss_); }
    void add(const Appearance& source, float weight) { build(source, weight, rgb_); }

    void run(int iterations, double max_bytes) {
        prepare(max_bytes);
        field_.gauss = gauss_.kernel.get();
        field_.rgb = rgb_.kernel.get();
        for (int i = 0; i <= iterations; ++i) {
            field_.first = i == 0;
            field_.last = i == iterations;
            crew_.run(size_t(tiling_.strips), [&](size_t s) { rows_.pass(field_, s); });
            if (field_.last) return;
            copies([this](Kernel& k, const Copy& c) {
                float *to = row(k, c.owner), *from = row(k, c.row);
                for (size_t j = 0; j < rows_.stride / sizeof(float); ++j) to[j] += from[j];
            });
            blurs([this](Kernel& k, int axis, size_t block) {
                rows_.blur(k.lattice.chains(axis), block, k.to.data(), rows_.stride);
            });
            copies([this](Kernel& k, const Copy& c) {
                std::memcpy(row(k, c.row), row(k, c.owner), rows_.stride);
            });
            for (Part* part : parts_) part->kernel->from.swap(part->kernel->to);
        }
    }

private:
    struct Part {
        std::unique_ptr<Kernel> kernel;
        float weight = 0.0f;
        std::vector<float> ones;
        std::function<void(size_t)> enter;
    };

    float* row(Kernel& k, size_t i) {
        return reinterpret_cast<float*>(k.to.data() + i * rows_.stride);
    }

    template <class Source> void build(const Source& source, float weight, Part& part) {
        part.kernel.reset(new Kernel(tiling_, keys_of(source)));
        part.weight = weight;
        Lattice* lattice = &part.kernel->lattice;
        part.enter = [lattice, source](size_t s) {
            (PICK2(enter, Source::d, Source))(*lattice, s, source);
        };
        parts_.push_back(&part);
    }

    void prepare(double max_bytes) {
        const size_t strips = size_t(tiling_.strips), n = parts_.size();
        crew_.run(strips * n, [&](size_t i) { parts_[i % n]->enter(i / n); });
        crew_.run(n, [&](size_t i) { parts_[i]->kernel->lattice.join(); });
        double bytes = 4.0 * double(field_.classes * tiling_.height * tiling_.width);
        for (Part* part : parts_) bytes += part->kernel->lattice.bytes(rows_.stride);
        if (bytes > max_bytes) throw TooLarge(bytes);
        std::vector<std::pair<Part*, int>> axes;
        for (int axis = 5; axis >= 0; --axis)
            for (Part* part : parts_)
                if (axis < part->kernel->lattice.corners()) axes.push_back({part, axis});
        crew_.run(axes.size(), [&](size_t i) {
            axes[i].first->kernel->lattice.link(axes[i].second);
        });
        for (Part* part : parts_) {
            part->kernel->lattice.forget();
            part->ones = part->kernel->lattice.ones();
        }
        // Symmetric normalisation: the filtered ones give each pixel's factor.
        copies([this](Kernel& k, const Copy& c) { ones(k)[c.owner] += ones(k)[c.row]; });
        blurs([this](Kernel& k, int axis, size_t block) {
            blur_scalars(k.lattice.chains(axis), block, ones(k).data());
        });
        copies([this](Kernel& k, const Copy& c) { ones(k)[c.row] = ones(k)[c.owner]; });
        crew_.run(strips * n, [&](size_t i) { normalise(*parts_[i % n], i / n); });
        for (Part* part : parts_) {
            const size_t size = part->kernel->lattice.rows() * rows_.stride;
            part->ones = std::vector<float>();
            part->kernel->from = Table(size);
            part->kernel->to = Table(size);
        }
    }

    std::vector<float>& ones(Kernel& k) {
        return (&k == gauss_.kernel.get() ? gauss_ : rgb_).ones;
    }

    // Fold the factors that come before and after the blur into the weights, and turn row numbers
    // into offsets.
    void normalise(Part& part, size_t s) {
        Lattice& lattice = part.kernel->lattice;
        const int n = lattice.corners();
        const float alpha = blur_scale(n - 1), gain = std::sqrt(part.weight * alpha);
        const float* ones = part.ones.data() + lattice.strip(s).first;
        const int64_t low = tiling_.first_row(tiling_.first_band(int64_t(s)));
        const int64_t high = tiling_.first_row(tiling_.first_band(int64_t(s) + 1));
        if (lattice.rows(s) * rows_.stride >> 32)
            throw TooLarge(double(lattice.rows(s)) * double(rows_.stride));
        uint32_t* slot = lattice.slots(s);
        for (int64_t i = 0; i < (high - low) * tiling_.tiles * 8; ++i, slot += 2 * n) {
            float* weight = reinterpret_cast<float*>(slot) + n;
            float sum = 0.0f;
            for (int k = 0; k < n; ++k) sum += weight[k] * ones[slot[k]];
            const float factor = gain / std::sqrt(alpha * sum + 1e-20f);
            for (int k = 0; k < n; ++k) {
                weight[k] *= factor;
                slot[k] *= uint32_t(rows_.stride);
            }
        }
    }

    // Do something with all copies, kernel by kernel, in pieces that share no owner.
    template <class Do> void copies(const Do& act) {
        const size_t piece = 2048;
        for (Part* part : parts_) {
            const std::vector<Copy>& all = part->kernel->lattice.copies();
            auto edge = [&](size_t i) {
                i = std::min(i, all.size());
                while (i && i < all.size() && all[i].owner == all[i - 1].owner) ++i;
                return i;
            };
            crew_.run((all.size() + piece - 1) / piece, [&](size_t i) {
                for (size_t c = edge(i * piece); c < edge((i + 1) * piece); ++c)
                    act(*part->kernel, all[c]);
            });
        }
    }

    // Do something with the blocks of each axis of all kernels, axis after axis.
    template <class Do> void blurs(const Do& act) {
        for (int axis = 0; axis < 6; ++axis) {
            std::vector<std::pair<Kernel*, size_t>> tasks;
            for (Part* part : parts_)
                if (axis < part->kernel->lattice.corners()) {
                    const Chains& chains = part->kernel->lattice.chains(axis);
                    for (size_t b = 0; b + 1 < chains.blocks.size(); ++b)
                        tasks.push_back({part->kernel.get(), b});
                }
            crew_.run(tasks.size(), [&](size_t i) { act(*tasks[i].first, axis, tasks[i].second); });
        }
    }

    const Tiling& tiling_;
    Crew& crew_;
    Rows rows_;
    Field field_;
    Part gauss_, rgb_;
    std::vector<Part*> parts_;
};

}  // namespace wsseg
