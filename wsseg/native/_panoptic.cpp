// Panoptic quality of one image: the pairs of two maps counted and matched in one call. The rules,
// and the same in numpy, are in wsseg/metrics/panoptic.py.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "pairs.h"

namespace py = pybind11;

namespace {

using Longs = py::array_t<int64_t, py::array::c_style>;
using Flags = py::array_t<bool, py::array::c_style>;
template <class T>
using Map = py::array_t<T, py::array::c_style>;
using Rows = std::vector<std::array<int64_t, 3>>;  // true id, predicted id, pixels

constexpr ssize_t kVoid = -1, kNone = -2;  // places of pixels that are of no segment
constexpr uint32_t kLabels = 1 << 16;      // a label of pixels without id: above all ids

// The segments of one map, by ascending id.
struct Segments {
  Segments(const Longs& numbers, const Longs& classes, int64_t n_classes)
      : number(numbers.data(), numbers.data() + numbers.size()),
        cls(classes.data(), classes.data() + classes.size()), crowd(number.size()),
        area(number.size()) {
    if (cls.size() != number.size()) throw py::value_error("a class for each segment");
    for (size_t i = 0; i < number.size(); ++i) {
      if (cls[i] < 0 || cls[i] >= n_classes) throw py::value_error("a class that is none");
      if (number[i] <= (i ? number[i - 1] : 0)) throw py::value_error("ids that do not ascend");
    }
  }
  ssize_t size() const { return static_cast<ssize_t>(number.size()); }
  ssize_t place(int64_t id) const {
    if (!id) return kVoid;
    const auto found = std::lower_bound(number.begin(), number.end(), id);
    return found != number.end() && *found == id ? found - number.begin() : kNone;
  }
  void add_crowd(int64_t id, int64_t of) {
    number.push_back(id);
    cls.push_back(of);
    crowd.push_back(1);
    area.push_back(0);
  }
  bool all_drawn() const { return std::find(area.begin(), area.end(), 0) == area.end(); }
  std::vector<int64_t> number, cls;
  std::vector<char> crowd;
  std::vector<int64_t> area;
};

// Adds the matches of one image to counts, (4, n) of IoU, true positives, false positives and
// false negatives. Returns whether every prediction is listed.
bool match(const Rows& rows, Segments& truth, Segments& guess, ssize_t n, double* counts) {
  struct Meeting {
    ssize_t t, p;
    int64_t pixels;
  };
  std::vector<Meeting> met;
  std::vector<int64_t> on_void(guess.size());
  for (const auto& [a, b, pixels] : rows) {
    const ssize_t t = truth.place(a), p = guess.place(b);
    if (p == kNone) return false;
    if (t >= 0) truth.area[t] += pixels;
    if (p < 0) continue;
    guess.area[p] += pixels;
    if (t == kVoid) on_void[p] += pixels;
    if (t >= 0 && truth.cls[t] == guess.cls[p]) met.push_back({t, p, pixels});
  }
  std::vector<ssize_t> last(n, kNone);  // one crowd for each class: of several, the API's choice
  std::vector<char> missed(truth.size(), 1), matched(guess.size());
  for (ssize_t t = 0; t < truth.size(); ++t)
    if (truth.crowd[t]) last[truth.cls[t]] = t, missed[t] = 0;
  std::vector<int64_t> excused = on_void;
  for (const auto& [t, p, pixels] : met) {
    if (truth.crowd[t]) {
      if (last[truth.cls[t]] == t) excused[p] += pixels;
      continue;
    }
    const double iou = static_cast<double>(pixels) /
                       static_cast<double>(guess.area[p] + truth.area[t] - pixels - on_void[p]);
    if (!(iou > 0.5)) continue;
    missed[t] = 0;
    matched[p] = 1;
    counts[truth.cls[t]] += iou;
    counts[n + truth.cls[t]] += 1;
  }
  for (ssize_t p = 0; p < guess.size(); ++p)
    if (!matched[p] && guess.area[p] && 2 * excused[p] <= guess.area[p])
      counts[2 * n + guess.cls[p]] += 1;
  for (ssize_t t = 0; t < truth.size(); ++t)
    if (missed[t]) counts[3 * n + truth.cls[t]] += 1;
  return true;
}

py::array_t<double> zeros(int64_t n_classes) {
  if (n_classes < 0 || n_classes > 1 << 24) throw py::value_error("number of classes");
  py::array_t<double> result({ssize_t{4}, static_cast<ssize_t>(n_classes)});
  std::fill_n(result.mutable_data(), 4 * n_classes, 0.0);
  return result;
}

template <class T>
py::array_t<double> counts(const Map<T>& truth, const Longs& numbers, const Longs& classes,
                           const Flags& crowd, const Map<T>& prediction,
                           const Longs& own_numbers, const Longs& own_classes,
                           int64_t n_classes) {
  if (truth.size() != prediction.size()) throw py::value_error("sizes differ");
  if (crowd.size() != numbers.size()) throw py::value_error("a crowd or not for each segment");
  auto result = zeros(n_classes);
  Segments of(numbers, classes, n_classes), guess(own_numbers, own_classes, n_classes);
  std::copy_n(crowd.data(), crowd.size(), of.crowd.begin());
  const T *t = truth.data(), *p = prediction.data();
  const ssize_t size = truth.size();
  double* out = result.mutable_data();
  bool listed;
  {
    py::gil_scoped_release release;
    Rows rows;
    pairs(t, p, size, [&](int64_t a, int64_t b, int64_t c) { rows.push_back({a, b, c}); });
    std::sort(rows.begin(), rows.end());  // so that a sum of IoU does not depend on places
    listed = match(rows, of, guess, n_classes, out);
  }
  if (!listed) throw py::value_error("prediction has pixels of a segment that is not listed");
  return result;
}

// Calls found(code, prediction, length) for runs of one true id, where there is none of one label
// too, and one prediction. code: the id, or kLabels + label.
template <class T, class Found>
void labelled_runs(const T* t, const T* label, const T* p, ssize_t n, Found found) {
  constexpr ssize_t step = 8 / sizeof(T);
  for (ssize_t i = 0; i < n;) {
    const T a = t[i], b = p[i];
    const T* l = a ? t : label;  // with an id, the label does not matter
    const T c = l[i];
    const ssize_t start = i++;
    const uint64_t as = repeated(a), bs = repeated(b), cs = repeated(c);
    uint64_t odd = 0;
    while (i + step <= n &&
           !(odd = (word(t + i) ^ as) | (word(p + i) ^ bs) | (word(l + i) ^ cs))) {
      i += step;
      while (i + 2 * step <= n &&
             !((word(t + i) ^ as) | (word(p + i) ^ bs) | (word(l + i) ^ cs) |
               (word(t + i + step) ^ as) | (word(p + i + step) ^ bs) | (word(l + i + step) ^ cs)))
        i += 2 * step;
    }
    if (i + step <= n)
      i += first<T>(odd);
    else
      while (i < n && t[i] == a && p[i] == b && l[i] == c) ++i;
    found(a ? uint32_t{a} : kLabels + c, b, i - start);
  }
}

// The counts of two maps that list all they draw and draw all they list, or None for others and
// for a label that is no class. label: of the pixels without true id, either void_label, that of
// the background, or a crowd's class.
template <class T>
py::object labelled_counts(const Map<T>& truth, const Map<T>& label, const Longs& numbers,
                           const Longs& classes, const Map<T>& prediction,
                           const Longs& own_numbers, const Longs& own_classes,
                           int64_t void_label, int64_t background, int64_t n_classes) {
  if (truth.size() != prediction.size() || truth.size() != label.size())
    throw py::value_error("sizes differ");
  auto result = zeros(n_classes);
  Segments of(numbers, classes, n_classes), guess(own_numbers, own_classes, n_classes);
  const T *t = truth.data(), *l = label.data(), *p = prediction.data();
  const ssize_t size = truth.size();
  double* out = result.mutable_data();
  bool whole = true;
  {
    py::gil_scoped_release release;
    Counts<uint16_t> table;
    labelled_runs(t, l, p, size, [&](uint32_t a, T b, ssize_t k) { table.add(a, b, k); });
    Rows rows;
    table.each([&](int64_t a, int64_t b, int64_t k) { rows.push_back({a, b, k}); });
    std::sort(rows.begin(), rows.end());
    for (auto& row : rows) {
      const int64_t of_label = row[0] - kLabels;
      if (of_label < 0) {
        whole = whole && of.place(row[0]) >= 0;
      } else if (of_label == void_label) {
        row[0] = 0;
      } else if (of_label == background) {
        row[0] = kNone;
      } else if (of_label >= n_classes) {
        whole = false;
      } else if (of.number.empty() || of.number.back() != row[0]) {
        of.add_crowd(row[0], of_label);
      }
    }
    whole = whole && match(rows, of, guess, n_classes, out) && of.all_drawn() &&
            guess.all_drawn();
  }
  return whole ? py::object(std::move(result)) : py::none();
}

template <class T>
void bind(py::module_& m) {
  auto truth = py::arg("truth").noconvert(), numbers = py::arg("numbers").noconvert(),
       classes = py::arg("classes").noconvert(), prediction = py::arg("prediction").noconvert(),
       own_numbers = py::arg("own_numbers").noconvert(),
       own_classes = py::arg("own_classes").noconvert();
  m.def("counts", &counts<T>, truth, numbers, classes, py::arg("crowd").noconvert(), prediction,
        own_numbers, own_classes, py::arg("n_classes"));
  m.def("labelled_counts", &labelled_counts<T>, truth, py::arg("label").noconvert(), numbers,
        classes, prediction, own_numbers, own_classes, py::arg("void_label"),
        py::arg("background"), py::arg("n_classes"));
}

}  // namespace

PYBIND11_MODULE(_panoptic, m) {
  bind<uint8_t>(m);
  bind<uint16_t>(m);
}
