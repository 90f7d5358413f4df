// Label maps: rows of a PNG, and how often pairs of labels meet. Maps are mostly flat, so runs
// are counted rather than pixels, and a run is followed a block at a time.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
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

// Eight bytes full of one value, and eight bytes from memory.
template <class T>
uint64_t repeated(T value) {
  return value * (sizeof(T) == 1 ? 0x0101010101010101u : 0x0001000100010001u);
}

uint64_t word(const void* at) {
  uint64_t value;
  std::memcpy(&value, at, 8);
  return value;
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

// Values are numbered as they are first met, so that the pairs of most maps, of which few have more
// than 255 ids, have a small table; others go to a hash table.
template <>
struct Counts<uint16_t> {
  static constexpr int kMost = 256;
  struct Tables {
    std::vector<uint16_t> number[2];  // 0: not met. All zero between two calls, as is count
    std::vector<int64_t> count;
    Tables() : number{std::vector<uint16_t>(1 << 16), std::vector<uint16_t>(1 << 16)},
               count(kMost * kMost) {}
  };
  static Tables& tables() {
    static thread_local Tables own;
    return own;
  }
  std::vector<uint16_t> value[2] = {{0}, {0}};
  std::vector<uint32_t> seen;
  std::unordered_map<uint32_t, int64_t> more;
  uint16_t* number[2] = {tables().number[0].data(), tables().number[1].data()};
  int64_t* count = tables().count.data();

  uint32_t of(int side, uint16_t v) {
    uint16_t& found = number[side][v];
    if (!found && value[side].size() < kMost) {
      found = static_cast<uint16_t>(value[side].size());
      value[side].push_back(v);
    }
    return found;
  }
  void add(uint16_t a, uint16_t b, int64_t n) {
    const uint32_t i = of(0, a), j = of(1, b);
    if (!i || !j) {
      more[static_cast<uint32_t>(a) << 16 | b] += n;
      return;
    }
    int64_t& own = count[i * kMost + j];
    if (!own) seen.push_back(i * kMost + j);
    own += n;
  }
  template <class F> void each(F f) {
    for (const uint32_t at : seen) {
      f(value[0][at / kMost], value[1][at % kMost], count[at]);
      count[at] = 0;
    }
    for (const auto& [code, n] : more) f(code >> 16, code & 0xffff, n);
    for (const int side : {0, 1})
      for (const uint16_t v : value[side]) number[side][v] = 0;
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

// The values of a map, ascending. A block like the pixel before it adds nothing.
py::array_t<int64_t> values(py::array_t<uint16_t, py::array::c_style> ids) {
  std::vector<uint8_t> marks(kValues<uint16_t>);
  const uint16_t* at = ids.data();
  const ssize_t n = ids.size();
  {
    py::gil_scoped_release release;
    uint64_t all = 0;
    ssize_t i = 0;
    if (n) marks[at[0]] = 1, all = repeated(at[0]);
    for (; i + 16 <= n; i += 16) {
      if (!((word(at + i) ^ all) | (word(at + i + 4) ^ all) | (word(at + i + 8) ^ all) |
            (word(at + i + 12) ^ all))) continue;
      for (ssize_t k = i; k < i + 16; ++k) marks[at[k]] = 1;
      all = repeated(at[i + 15]);
    }
    for (; i < n; ++i) marks[at[i]] = 1;
  }
  return numbers(marks, kValues<uint16_t>);
}

// Goes over a map of ids and one of labels in blocks of eight pixels: whole(i) where all have one
// id and one label, each(i) for a pixel elsewhere.
template <class T, class Whole, class Each>
void blocks(const uint16_t* ids, const T* label, ssize_t n, Whole whole, Each each) {
  ssize_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const uint64_t id = repeated(ids[i]), of = repeated(label[i]);
    if ((word(ids + i) ^ id) | (word(ids + i + 4) ^ id) | (word(label + i) ^ of) |
        (word(label + i + 8 - 8 / sizeof(T)) ^ of)) {
      for (ssize_t k = i; k < i + 8; ++k) each(k);
    } else {
      whole(i);
    }
  }
  for (; i < n; ++i) each(i);
}

// The labels of the pixels without id, ascending.
template <class T>
py::array_t<int64_t> labels_without(py::array_t<uint16_t, py::array::c_style> ids,
                                    py::array_t<T, py::array::c_style> label) {
  if (ids.size() != label.size()) throw py::value_error("sizes differ");
  std::vector<uint8_t> marks(kValues<T> + 1);
  const uint16_t* id = ids.data();
  const T* of = label.data();
  const ssize_t n = ids.size();
  {
    py::gil_scoped_release release;
    const auto mark = [&](ssize_t i) { marks[id[i] ? kValues<T> : size_t{of[i]}] = 1; };
    blocks(id, of, n, mark, mark);
  }
  return numbers(marks, kValues<T>);
}

// Ids, and where there is none what code has for the label.
template <class T>
py::array_t<uint16_t> filled(py::array_t<uint16_t, py::array::c_style> ids,
                             py::array_t<T, py::array::c_style> label,
                             py::array_t<uint16_t, py::array::c_style> code) {
  if (ids.size() != label.size()) throw py::value_error("sizes differ");
  if (code.size() != static_cast<ssize_t>(kValues<T>))
    throw py::value_error("a code for each label");
  py::array_t<uint16_t> result(std::vector<ssize_t>(ids.shape(), ids.shape() + ids.ndim()));
  uint16_t* out = result.mutable_data();
  const T* of = label.data();
  const uint16_t *id = ids.data(), *codes = code.data();
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

}  // namespace

PYBIND11_MODULE(_labels, m) {
  m.def("pair_counts", &pair_counts<uint8_t>, py::arg("truth").noconvert(),
        py::arg("prediction").noconvert());
  m.def("pair_counts", &pair_counts<uint16_t>, py::arg("truth").noconvert(),
        py::arg("prediction").noconvert());
  m.def("values", &values, py::arg("ids").noconvert());
  m.def("labels_without", &labels_without<uint8_t>, py::arg("ids").noconvert(),
        py::arg("label").noconvert());
  m.def("labels_without", &labels_without<uint16_t>, py::arg("ids").noconvert(),
        py::arg("label").noconvert());
  m.def("filled", &filled<uint8_t>, py::arg("ids").noconvert(), py::arg("label").noconvert(),
        py::arg("code").noconvert());
  m.def("filled", &filled<uint16_t>, py::arg("ids").noconvert(), py::arg("label").noconvert(),
        py::arg("code").noconvert());
  m.def("unfilter", &unfilter<uint8_t>);
  m.def("unfilter16", &unfilter<uint16_t>);
}
