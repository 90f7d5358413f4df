// Masks given by run-lengths: the spans of their pixels, and in how many two masks meet. Runs come
// as Python's numbers and are read from there: most of the time went into copying them.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace py = pybind11;

namespace {

using Longs = py::array_t<int64_t, py::array::c_style | py::array::forcecast>;

// The numbers of one sequence of Python's.
class Numbers {
 public:
  explicit Numbers(py::handle of)
      : fast_(py::reinterpret_steal<py::object>(PySequence_Fast(of.ptr(), "runs: no sequence"))) {
    if (!fast_) throw py::error_already_set();
    size_ = PySequence_Fast_GET_SIZE(fast_.ptr());
    items_ = PySequence_Fast_ITEMS(fast_.ptr());
  }
  ssize_t size() const { return size_; }
  int64_t operator[](ssize_t i) const {
    const long long value = PyLong_AsLongLong(items_[i]);
    if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
    return value;
  }

 private:
  py::object fast_;
  ssize_t size_;
  PyObject** items_;
};

Longs array(const std::vector<int64_t>& values) {
  Longs result(static_cast<ssize_t>(values.size()));
  std::memcpy(result.mutable_data(), values.data(), values.size() * sizeof(int64_t));
  return result;
}

// Region, start and stop of every span of the chosen masks, column-major; empty runs leave none.
py::tuple spans(const py::sequence& runs, const Longs& chosen, int64_t height, int64_t width) {
  std::vector<int64_t> region, start, stop;
  const int64_t total = height * width;
  for (ssize_t c = 0; c < chosen.size(); ++c) {
    const int64_t which = chosen.data()[c];
    const py::object item = runs[which];
    const Numbers numbers(item);
    int64_t at = 0;
    bool good = numbers.size() > 0;
    for (ssize_t i = 0; good && i < numbers.size(); ++i) {
      const int64_t length = numbers[i];
      good = length >= 0 && length <= total - at;
      if (good && i % 2 && length) {
        region.push_back(which);
        start.push_back(at);
        stop.push_back(at + length);
      }
      at += length;
    }
    if (!good || at != total)
      throw py::value_error("run-lengths do not cover " + std::to_string(height) + "x" +
                            std::to_string(width) + " pixels");
  }
  return py::make_tuple(array(region), array(start), array(stop));
}

// Pixels of the chosen masks.
Longs areas(const py::sequence& runs, const Longs& chosen) {
  std::vector<int64_t> result(chosen.size());
  for (ssize_t c = 0; c < chosen.size(); ++c) {
    const py::object item = runs[chosen.data()[c]];
    const Numbers numbers(item);
    for (ssize_t i = 1; i < numbers.size(); i += 2) result[c] += numbers[i];
  }
  return array(result);
}

// Pixels in which pairs of regions meet. first: the first span of each region and, at the end,
// how many there are; spans of a region ascend and do not overlap.
Longs meets(const Longs& p, const Longs& t, const Longs& p_first, const Longs& p_start,
            const Longs& p_stop, const Longs& t_first, const Longs& t_start, const Longs& t_stop) {
  Longs result(p.size());
  const auto check = [](const Longs& first, const Longs& start, const Longs& stop,
                        const Longs& which, int64_t n) {
    bool good = start.size() == stop.size() && which.size() == n && first.size() > 0 &&
                first.data()[0] >= 0 && first.data()[first.size() - 1] <= start.size();
    for (ssize_t i = 1; good && i < first.size(); ++i)
      good = first.data()[i - 1] <= first.data()[i];
    for (ssize_t i = 0; good && i < n; ++i)
      good = which.data()[i] >= 0 && which.data()[i] + 1 < first.size();
    if (!good) throw py::value_error("spans and pairs do not fit");
  };
  check(p_first, p_start, p_stop, p, p.size());
  check(t_first, t_start, t_stop, t, p.size());
  const int64_t *a = p_start.data(), *a_end = p_stop.data(), *b = t_start.data(),
                *b_end = t_stop.data();
  int64_t* found = result.mutable_data();
  for (ssize_t k = 0; k < p.size(); ++k) {
    int64_t i = p_first.data()[p.data()[k]], j = t_first.data()[t.data()[k]], sum = 0;
    const int64_t last_i = p_first.data()[p.data()[k] + 1];
    const int64_t last_j = t_first.data()[t.data()[k] + 1];
    if (i < last_i && j < last_j) {  // to the first spans that can meet
      i = std::upper_bound(a_end + i, a_end + last_i, b[j]) - a_end;
      if (i < last_i) j = std::upper_bound(b_end + j, b_end + last_j, a[i]) - b_end;
    }
    while (i < last_i && j < last_j) {
      const int64_t from = std::max(a[i], b[j]), to = std::min(a_end[i], b_end[j]);
      sum += std::max<int64_t>(to - from, 0);
      const bool next = a_end[i] < b_end[j];
      i += next;
      j += !next;
    }
    found[k] = sum;
  }
  return result;
}

}  // namespace

PYBIND11_MODULE(_spans, m) {
  m.def("spans", &spans);
  m.def("areas", &areas);
  m.def("meets", &meets);
}
