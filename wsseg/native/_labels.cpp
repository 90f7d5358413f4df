// Label maps: rows of a PNG, what values a map has, and how often pairs of labels meet. Maps are
// mostly flat, so blocks and runs are looked at rather than pixels.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "pairs.h"

namespace py = pybind11;

namespace {

template <class T>
py::array_t<int64_t> pair_counts(py::array_t<T, py::array::c_style> truth,
                                 py::array_t<T, py::array::c_style> prediction) {
  if (truth.size() != prediction.size()) throw py::value_error("sizes differ");
  const T *t = truth.data(), *p = prediction.data();
  const ssize_t n = truth.size();
  std::vector<int64_t> rows;
  {
    py::gil_scoped_release release;
    pairs(t, p, n, [&](int64_t a, int64_t b, int64_t c) { rows.insert(rows.end(), {a, b, c}); });
  }
  py::array_t<int64_t> result({static_cast<ssize_t>(rows.size() / 3), ssize_t{3}});
  std::memcpy(result.mutable_data(), rows.data(), rows.size() * sizeof(int64_t));
  return result;
}

// How many values a type has.
template <class T>
constexpr size_t kValues = size_t{1} << (8 * sizeof(T));

// The numbers of the first count marks, a multiple of eight, that are set.
py::array_t<int64_t> numbers(const std::vector<uint8_t>& marks, size_t count) {
  std::vector<int64_t> found;
  for (size_t v = 0; v < count; v += 8)
    if (word(&marks[v]))
      for (size_t k = v; k < v + 8; ++k)
        if (marks[k]) found.push_back(static_cast<int64_t>(k));
  py::array_t<int64_t> result(static_cast<ssize_t>(found.size()));
  std::memcpy(result.mutable_data(), found.data(), found.size() * sizeof(int64_t));
  return result;
}

// Whether the next 32 bytes are all like those of one.
bool alike(const void* at, uint64_t one) {
  const auto* from = static_cast<const uint8_t*>(at);
  return !((word(from) ^ one) | (word(from + 8) ^ one) | (word(from + 16) ^ one) |
           (word(from + 24) ^ one));
}

// The values of a map, ascending. A block like the pixel before it adds nothing.
template <class T>
py::array_t<int64_t> values(py::array_t<T, py::array::c_style> ids) {
  constexpr ssize_t block = 32 / sizeof(T);
  std::vector<uint8_t> marks(kValues<T>);
  const T* at = ids.data();
  const ssize_t n = ids.size();
  {
    py::gil_scoped_release release;
    uint64_t all = 0;
    ssize_t i = 0;
    if (n) marks[at[0]] = 1, all = repeated(at[0]);
    for (; i + block <= n; i += block) {
      if (alike(at + i, all)) continue;
      for (ssize_t k = i; k < i + block; ++k) marks[at[k]] = 1;
      all = repeated(at[i + block - 1]);
    }
    for (; i < n; ++i) marks[at[i]] = 1;
  }
  return numbers(marks, kValues<T>);
}

// Whether eight pixels from memory all have the value that all, eight bytes, is full of.
template <class T>
bool eight(const T* at, uint64_t all) {
  uint64_t odd = 0;
  for (size_t k = 0; k < 8; k += 8 / sizeof(T)) odd |= word(at + k) ^ all;
  return !odd;
}

// Goes over a map of ids and one of labels in blocks of eight pixels: whole(i) where all have one
// id and one label, each(i) for a pixel elsewhere.
template <class T, class L, class Whole, class Each>
void blocks(const T* ids, const L* label, ssize_t n, Whole whole, Each each) {
  ssize_t i = 0;
  for (; i + 8 <= n; i += 8) {
    if (eight(ids + i, repeated(ids[i])) && eight(label + i, repeated(label[i]))) {
      whole(i);
    } else {
      for (ssize_t k = i; k < i + 8; ++k) each(k);
    }
  }
  for (; i < n; ++i) each(i);
}

// The labels of the pixels without id, ascending.
template <class T, class L>
py::array_t<int64_t> labels_without(py::array_t<T, py::array::c_style> ids,
                                    py::array_t<L, py::array::c_style> label) {
  if (ids.size() != label.size()) throw py::value_error("sizes differ");
  std::vector<uint8_t> marks(kValues<L> + 1);
  const T* id = ids.data();
  const L* of = label.data();
  const ssize_t n = ids.size();
  {
    py::gil_scoped_release release;
    const auto mark = [&](ssize_t i) { marks[id[i] ? kValues<L> : size_t{of[i]}] = 1; };
    blocks(id, of, n, mark, mark);
  }
  return numbers(marks, kValues<L>);
}

// Ids, and where there is none what code has for the label.
template <class T, class L>
py::array_t<T> filled(py::array_t<T, py::array::c_style> ids,
                      py::array_t<L, py::array::c_style> label,
                      py::array_t<T, py::array::c_style> code) {
  if (ids.size() != label.size()) throw py::value_error("sizes differ");
  if (code.size() != static_cast<ssize_t>(kValues<L>))
    throw py::value_error("a code for each label");
  py::array_t<T> result(std::vector<ssize_t>(ids.shape(), ids.shape() + ids.ndim()));
  T* out = result.mutable_data();
  const L* of = label.data();
  const T *id = ids.data(), *codes = code.data();
  const ssize_t n = ids.size();
  {
    py::gil_scoped_release release;
    const auto value = [&](ssize_t i) { return id[i] ? id[i] : codes[of[i]]; };
    blocks(id, of, n, [&](ssize_t i) { std::fill_n(out + i, 8, value(i)); },
           [&](ssize_t i) { out[i] = value(i); });
  }
  return result;
}

// Paeth's filter where it adds nothing, as in most of a map: with the pixel to the left like the
// one above it, the row goes on like the row above; below a flat stretch it stays as it is.
// Returns where it stopped.
template <ssize_t step>
ssize_t paeth_copy(const uint8_t* in, const uint8_t* up, uint8_t* out, ssize_t i, ssize_t n) {
  while (i + 8 <= n && !word(in + i)) {
    if (!std::memcmp(out + i - step, up + i - step, step)) {
      std::memcpy(out + i, up + i, 8);
    } else if (word(up + i) == word(up + i - step)) {
      for (ssize_t k = 0; k < 8; k += step) std::memcpy(out + i + k, out + i - step, step);
    } else {
      break;
    }
    i += 8;
  }
  return i;
}

// Adds to each byte what its filter predicts (PNG 1.2, section 6); step: bytes of a pixel, which
// is how far to the left the byte lies that it is predicted from.
template <ssize_t step>
void restore(int filter, const uint8_t* in, const uint8_t* up, uint8_t* out, ssize_t n) {
  switch (filter) {
    case 0:
      std::memcpy(out, in, n);
      break;
    case 1:
      std::memcpy(out, in, step);
      for (ssize_t i = step; i < n;) {
        for (; i + 8 <= n && !word(in + i); i += 8)
          for (ssize_t k = 0; k < 8; k += step) std::memcpy(out + i + k, out + i - step, step);
        for (const ssize_t end = std::min(i + 8, n); i < end; ++i) out[i] = in[i] + out[i - step];
      }
      break;
    case 2:
      for (ssize_t i = 0; i < n; ++i) out[i] = in[i] + up[i];
      break;
    case 3:
      for (ssize_t i = 0; i < step; ++i) out[i] = in[i] + up[i] / 2;
      for (ssize_t i = step; i < n; ++i) out[i] = in[i] + (out[i - step] + up[i]) / 2;
      break;
    case 4:
      for (ssize_t i = 0; i < step; ++i) out[i] = in[i] + up[i];
      for (ssize_t i = step; i < n; ++i) {
        i = paeth_copy<step>(in, up, out, i, n);
        if (i == n) break;
        const int a = out[i - step], b = up[i], c = up[i - step];
        const int pa = std::abs(b - c), pb = std::abs(a - c), pc = std::abs(a + b - 2 * c);
        out[i] = in[i] + (pa <= pb && pa <= pc ? a : pb <= pc ? b : c);
      }
      break;
    default:
      throw py::value_error("row of unknown filter " + std::to_string(filter));
  }
}

// T: uint8_t, or uint16_t for samples of 16 bits, whose high byte comes first.
template <class T>
py::array_t<T> unfilter(const py::bytes& raw, ssize_t height, ssize_t width) {
  const std::string_view data = raw;
  const ssize_t row = width * sizeof(T);
  if (height < 1 || width < 1 || static_cast<ssize_t>(data.size()) / height != row + 1 ||
      static_cast<ssize_t>(data.size()) % height)
    throw py::value_error("size differs");
  py::array_t<T> result({height, width});
  const auto* in = reinterpret_cast<const uint8_t*>(data.data());
  auto* out = reinterpret_cast<uint8_t*>(result.mutable_data());
  const std::vector<uint8_t> zeros(row);
  for (ssize_t y = 0; y < height; ++y)
    restore<sizeof(T)>(in[y * (row + 1)], in + y * (row + 1) + 1,
                       y ? out + (y - 1) * row : zeros.data(), out + y * row, row);
  if constexpr (sizeof(T) == 2) {
    T* samples = result.mutable_data();
    const uint16_t one = 1;
    uint8_t low;
    std::memcpy(&low, &one, 1);
    if (low)
      for (ssize_t i = 0; i < height * width; ++i)
        samples[i] = static_cast<T>(samples[i] << 8 | samples[i] >> 8);
  }
  return result;
}

// What there is for ids of one type.
template <class T>
void bind(py::module_& m) {
  auto truth = py::arg("truth").noconvert(), prediction = py::arg("prediction").noconvert(),
             ids = py::arg("ids").noconvert(), label = py::arg("label").noconvert(),
             code = py::arg("code").noconvert();
  m.def("pair_counts", &pair_counts<T>, truth, prediction);
  m.def("values", &values<T>, ids);
  m.def("labels_without", &labels_without<T, uint8_t>, ids, label);
  m.def("labels_without", &labels_without<T, uint16_t>, ids, label);
  m.def("filled", &filled<T, uint8_t>, ids, label, code);
  m.def("filled", &filled<T, uint16_t>, ids, label, code);
}

}  // namespace

PYBIND11_MODULE(_labels, m) {
  bind<uint8_t>(m);
  bind<uint16_t>(m);
  m.def("unfilter", &unfilter<uint8_t>);
  m.def("unfilter16", &unfilter<uint16_t>);
}
