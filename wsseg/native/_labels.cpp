// Label maps: rows of a PNG, and how often pairs of labels meet. Maps are mostly flat, so runs
// are counted rather than pixels, and a run is followed a block at a time.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace py = pybind11;

namespace {

constexpr ssize_t kBlock = 32;

template <class T>
bool flat(const T* t, const T* p, T a, T b) {
  T odd = 0;
  for (ssize_t i = 0; i < kBlock; ++i) odd |= (t[i] ^ a) | (p[i] ^ b);
  return odd == 0;
}

// How many of the next eight bytes are not odd, in memory's order.
template <class T>
ssize_t same(const T* t, const T* p, T a, T b) {
  constexpr ssize_t count = 8 / sizeof(T);
  const uint64_t ones = sizeof(T) == 1 ? 0x0101010101010101u : 0x0001000100010001u;
  uint64_t x, y;
  std::memcpy(&x, t, 8);
  std::memcpy(&y, p, 8);
  const uint64_t odd = (x ^ ones * a) | (y ^ ones * b);
  return odd ? __builtin_ctzll(odd) / (8 * sizeof(T)) : count;
}

// Calls found(truth, prediction, length) for every run.
template <class T, class Found>
void runs(const T* t, const T* p, ssize_t n, Found found) {
  constexpr ssize_t word = 8 / sizeof(T);
  for (ssize_t i = 0; i < n;) {
    const T a = t[i], b = p[i];
    const ssize_t start = i++;
    ssize_t more = word;
    while (i + word <= n && (more = same(t + i, p + i, a, b)) == word) {
      i += word;
      while (i + kBlock <= n && flat(t + i, p + i, a, b)) i += kBlock;
    }
    if (i + word <= n) {
      i += more;
    } else {
      while (i < n && t[i] == a && p[i] == b) ++i;
    }
    found(a, b, i - start);
  }
}

template <class T>
struct Counts {
  std::unordered_map<uint64_t, int64_t> table;
  void add(T a, T b, int64_t n) { table[static_cast<uint64_t>(a) << 32 | b] += n; }
  template <class F> void each(F f) {
    for (const auto& [code, n] : table) f(code >> 32, code & 0xffffffff, n);
  }
};

template <>
struct Counts<uint8_t> {
  static thread_local std::vector<int64_t> table;  // all zero between two calls
  std::vector<uint16_t> seen;
  Counts() { table.resize(1 << 16); }
  void add(uint8_t a, uint8_t b, int64_t n) {
    const uint16_t code = static_cast<uint16_t>(a << 8 | b);
    if (!table[code]) seen.push_back(code);
    table[code] += n;
  }
  template <class F> void each(F f) {
    for (const uint16_t code : seen) {
      f(code >> 8, code & 255, table[code]);
      table[code] = 0;
    }
  }
};
thread_local std::vector<int64_t> Counts<uint8_t>::table;

template <class T>
py::array_t<int64_t> pair_counts(py::array_t<T, py::array::c_style> truth,
                                 py::array_t<T, py::array::c_style> prediction) {
  if (truth.size() != prediction.size()) throw py::value_error("sizes differ");
  const T *t = truth.data(), *p = prediction.data();
  const ssize_t n = truth.size();
  std::vector<int64_t> rows;
  {
    py::gil_scoped_release release;
    Counts<T> counts;
    runs(t, p, n, [&](T a, T b, ssize_t length) { counts.add(a, b, length); });
    counts.each([&](int64_t a, int64_t b, int64_t c) { rows.insert(rows.end(), {a, b, c}); });
  }
  py::array_t<int64_t> result({static_cast<ssize_t>(rows.size() / 3), ssize_t{3}});
  std::memcpy(result.mutable_data(), rows.data(), rows.size() * sizeof(int64_t));
  return result;
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
      for (ssize_t i = step; i < n; ++i) out[i] = in[i] + out[i - step];
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
    for (ssize_t i = 0; i < height * width; ++i) {
      const uint8_t* bytes = out + 2 * i;
      samples[i] = static_cast<T>(bytes[0] << 8 | bytes[1]);
    }
  }
  return result;
}

}  // namespace

PYBIND11_MODULE(_labels, m) {
  m.def("pair_counts", &pair_counts<uint8_t>, py::arg("truth").noconvert(),
        py::arg("prediction").noconvert());
  m.def("pair_counts", &pair_counts<uint16_t>, py::arg("truth").noconvert(),
        py::arg("prediction").noconvert());
  m.def("unfilter", &unfilter<uint8_t>);
  m.def("unfilter16", &unfilter<uint16_t>);
}
