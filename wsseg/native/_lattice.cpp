// wsseg.native._lattice: mean-field inference and plain filtering on the permutohedral lattice.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>

#include "infer.h"

namespace py = pybind11;
using namespace wsseg;

typedef py::array_t<float, py::array::c_style | py::array::forcecast> Floats;
typedef py::array_t<uint8_t, py::array::c_style | py::array::forcecast> Bytes;

// See wsseg/refine/densecrf.py for the meaning and the checks.
Floats mean_field(const Floats& given, const Bytes& image, bool is_energy, float clip,
                  std::array<float, 2> gauss_sigma, float gauss_weight,
                  std::array<float, 5> rgb_sigma, float rgb_weight, int iterations, int threads,
                  double max_bytes) {
    const int64_t k = given.shape(0), h = given.shape(1), w = given.shape(2);
    Floats result({k, h, w});
    const float* from = given.data();
    float* planes = result.mutable_data();
    const uint8_t* pixels = image.data();
    py::gil_scoped_release unlocked;
    const Tiling tiling(h, w, 16, 45000);  // part of the result: sums run strip by strip
    Crew crew(int(std::min<int64_t>(threads, tiling.strips)));
    const size_t piece = 1 << 16, count = size_t(k * h * w);
    const auto log_of = PICK(log);
    crew.run((count + piece - 1) / piece, [&](size_t i) {
        const size_t low = i * piece, n = std::min(piece, count - low);
        if (!is_energy) return log_of(from + low, planes + low, n, clip);
        for (size_t j = low; j < low + n; ++j) planes[j] = -from[j];
    });
    Inference inference(planes, k, tiling, crew);
    const Position position{tiling, {gauss_sigma[0], gauss_sigma[1]}};
    const Position beside{tiling, {rgb_sigma[0], rgb_sigma[1]}};
    const Appearance appearance{beside, pixels, {rgb_sigma[2], rgb_sigma[3], rgb_sigma[4]}};
    if (gauss_weight > 0) inference.add(position, gauss_weight);
    if (rgb_weight > 0) inference.add(appearance, rgb_weight);
    inference.run(iterations, max_bytes);
    return result;
}

struct Points {
    const float* features;  // (N, d)
    int64_t count;
    int d;
    INLINE void fill(int64_t, int64_t x, f8* out) const {
        for (int i = 0; i < d; ++i)
            for (int p = 0; p < 8; ++p) out[i][p] = features[std::min(x + p, count - 1) * d + i];
    }
};

// Plain filtering: values (N, K) of points with features (N, d). No normalisation.
Floats filter(const Floats& features, const Floats& values) {
    const int64_t n = features.shape(0), k = values.shape(1), width = (k + 7) / 8 * 8;
    const int d = int(features.shape(1)), corners = d + 1;
    Floats result({n, k});
    const float *feature = features.data(), *from = values.data();
    float* to = result.mutable_data();
    py::gil_scoped_release unlocked;
    float low[max_d], high[max_d];
    for (int i = 0; i < d; ++i) {
        low[i] = high[i] = feature[i];
        for (int64_t j = 1; j < n; ++j) {
            low[i] = std::min(low[i], feature[j * d + i]);
            high[i] = std::max(high[i], feature[j * d + i]);
        }
    }
    const Tiling tiling(1, n, 1, n);
    Lattice lattice(tiling, Keys(d, low, high));
    const Points points{feature, n, d};
    if (d == 2) PICK2(enter, 2, Points)(lattice, 0, points);
    else if (d == 5) PICK2(enter, 5, Points)(lattice, 0, points);
    else PICK2(enter, 0, Points)(lattice, 0, points);
    lattice.join();
    std::vector<float> table(lattice.rows() * size_t(width));
    const uint32_t* slot = lattice.slots(0);
    for (int64_t j = 0; j < n; ++j)
        for (int c = 0; c < corners; ++c) {
            const uint32_t* at = slot + j * 2 * corners;
            const float weight = reinterpret_cast<const float*>(at)[corners + c];
            for (int64_t i = 0; i < k; ++i) table[at[c] * width + i] += weight * from[j * k + i];
        }
    const BlurBlock blur = PICK2(blur, f8, 0);
    for (int axis = 0; axis < corners; ++axis) {
        lattice.link(axis);
        for (size_t b = 0; b + 1 < lattice.chains(axis).blocks.size(); ++b)
            blur(lattice.chains(axis), b, reinterpret_cast<char*>(table.data()), size_t(width) * 4);
    }
    const float alpha = blur_scale(d);
    for (int64_t j = 0; j < n; ++j) {
        const uint32_t* at = slot + j * 2 * corners;
        const float* weight = reinterpret_cast<const float*>(at) + corners;
        for (int64_t i = 0; i < k; ++i) {
            float sum = 0.0f;
            for (int c = 0; c < corners; ++c) sum += weight[c] * table[at[c] * width + i];
            to[j * k + i] = alpha * sum;
        }
    }
    return result;
}

PYBIND11_MODULE(_lattice, m) {
    py::register_exception<TooLarge>(m, "TooLarge", PyExc_MemoryError);
    m.def("mean_field", &mean_field, py::arg("given"), py::arg("image"), py::kw_only(),
          py::arg("is_energy"), py::arg("clip"), py::arg("gauss_sigma"), py::arg("gauss_weight"),
          py::arg("rgb_sigma"), py::arg("rgb_weight"), py::arg("iterations"), py::arg("threads"),
          py::arg("max_bytes"));
    m.def("filter", &filter, py::arg("features"), py::arg("values"));
    m.attr("max_d") = max_d;
}
