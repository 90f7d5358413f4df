// Class probabilities of a random forest at every pixel of a photo.
//
// Trees are renumbered breadth first, so that siblings are neighbours and a node fits into 8
// bytes. A leaf leads to itself, so that many pixels can walk in step without a branch: their
// loads overlap, where one pixel alone would wait for each. Pixels that arrived are set aside
// every few levels.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include "crew.h"

namespace py = pybind11;

namespace {

constexpr size_t kBlock = 64;    // pixels whose features stay in the first-level cache
constexpr size_t kTask = 32;     // blocks that a thread takes at once
constexpr int kLevels = 3;       // levels between two looks at who has arrived

template <class Index>
struct Node {
  float threshold;
  Index feature, left;  // right = left + 1
};

// x <= t for a float x and a double t, as x <= the largest float that is not above t.
float rounded_down(double t) {
  const float f = static_cast<float>(t);
  return static_cast<double>(f) > t ? std::nextafter(f, -std::numeric_limits<float>::infinity())
                                    : f;
}

using Ints = py::array_t<int64_t, py::array::c_style | py::array::forcecast>;
using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;

struct Source {  // one tree as scikit-learn holds it
  const int64_t *left, *right, *feature;
  const double *threshold, *value;
  size_t nodes;
};

// The nodes of a tree, parents first and siblings together. Throws for what is no tree.
std::vector<size_t> breadth_first(const Source& tree) {
  std::vector<size_t> order{0};
  order.reserve(tree.nodes);
  for (size_t i = 0; i < order.size(); ++i) {
    const int64_t l = tree.left[order[i]], r = tree.right[order[i]];
    if (l < 0) continue;
    if (size_t(l) >= tree.nodes || r < 0 || size_t(r) >= tree.nodes || order.size() + 2 > tree.nodes)
      throw std::invalid_argument("the nodes make no tree");
    order.push_back(size_t(l));
    order.push_back(size_t(r));
  }
  return order;
}

template <class Index>
class Trees {
 public:
  void add(const Source& tree, size_t classes) {
    const std::vector<size_t> order = breadth_first(tree);
    starts_.push_back(nodes_.size());
    size_t next = 1;
    for (size_t i = 0; i < order.size(); ++i) {
      const size_t from = order[i];
      const bool leaf = tree.left[from] < 0;
      nodes_.push_back({leaf ? std::numeric_limits<float>::infinity()
                             : rounded_down(tree.threshold[from]),
                        static_cast<Index>(leaf ? 0 : tree.feature[from]),
                        static_cast<Index>(leaf ? i : next)});
      if (!leaf) next += 2;
      double total = 0;
      for (size_t k = 0; k < classes; ++k) total += tree.value[from * classes + k];
      for (size_t k = 0; k < classes; ++k)
        values_.push_back(tree.value[from * classes + k] / (total > 0 ? total : 1));
    }
  }

  // Add the values of the leaves that pixels 0 .. count - 1 reach; x: (features, kBlock).
  void sum(const float* x, size_t count, size_t classes, double* sums) const {
    uint32_t at[kBlock];
    uint32_t pixel[kBlock];
    for (const size_t start : starts_) {
      const Node<Index>* nodes = nodes_.data() + start;
      const double* values = values_.data() + start * classes;
      for (size_t p = 0; p < count; ++p) {
        at[p] = 0;
        pixel[p] = uint32_t(p);
      }
      for (size_t active = count; active;) {
        for (int level = 0; level < kLevels; ++level) {
          for (size_t a = 0; a < active; ++a) {
            const Node<Index> node = nodes[at[a]];
            at[a] = node.left + (x[size_t(node.feature) * kBlock + pixel[a]] > node.threshold);
          }
        }
        size_t kept = 0;
        for (size_t a = 0; a < active; ++a) {
          const uint32_t here = at[a], p = pixel[a];
          if (nodes[here].left <= here) {
            const double* value = values + here * classes;
            for (size_t k = 0; k < classes; ++k) sums[p * classes + k] += value[k];
          } else {
            at[kept] = here;
            pixel[kept++] = p;
          }
        }
        active = kept;
      }
    }
  }

 private:
  std::vector<Node<Index>> nodes_;
  std::vector<double> values_;  // (nodes, classes)
  std::vector<size_t> starts_;
};

class Forest {
 public:
  Forest(py::sequence trees, size_t features, size_t classes)
      : features_(features), classes_(classes), count_(trees.size()) {
    if (!count_ || !classes || !features) throw py::value_error("an empty forest");
    bool small = features <= 65536;
    for (const py::handle item : trees) small = small && length(item) <= 65536;
    wide_ = !small;
    for (const py::handle item : trees) {
      const auto parts = py::cast<py::tuple>(item);
      const Ints left(parts[0]), right(parts[1]), feature(parts[2]);
      const Doubles threshold(parts[3]), value(parts[4]);
      const size_t n = size_t(left.size());
      if (!n || size_t(right.size()) != n || size_t(feature.size()) != n ||
          size_t(threshold.size()) != n || size_t(value.size()) != n * classes)
        throw py::value_error("the arrays of a tree differ in length");
      for (size_t i = 0; i < n; ++i)
        if (left.data()[i] >= 0 && (feature.data()[i] < 0 || size_t(feature.data()[i]) >= features))
          throw py::value_error("a tree asks for a feature that is not there");
      const Source source{left.data(), right.data(), feature.data(), threshold.data(),
                          value.data(), n};
      if (wide_) large_.add(source, classes);
      else small_.add(source, classes);
    }
  }

  // x: float32 (features, pixels). Returns float32 (classes, pixels), the mean over trees.
  py::array_t<float> predict(py::array_t<float, py::array::c_style> x, int threads) const {
    if (x.ndim() != 2 || size_t(x.shape(0)) != features_)
      throw py::value_error("the features must be (" + std::to_string(features_) + ", pixels)");
    const size_t pixels = size_t(x.shape(1));
    py::array_t<float> result({classes_, pixels});
    const float* in = x.data();
    float* out = result.mutable_data();
    {
      py::gil_scoped_release release;
      const size_t blocks = (pixels + kBlock - 1) / kBlock;
      const size_t tasks = (blocks + kTask - 1) / kTask;
      wsseg::Crew crew(std::max(1, threads));
      crew.run(tasks, [&](size_t task) {
        std::vector<float> block(features_ * kBlock);
        std::vector<double> sums(kBlock * classes_);
        const size_t end = std::min(blocks, (task + 1) * kTask);
        for (size_t b = task * kTask; b < end; ++b)
          one(in, out, pixels, b * kBlock, block, sums);
      });
    }
    return result;
  }

 private:
  static size_t length(py::handle tree) {
    return py::len(py::cast<py::tuple>(tree)[0]);
  }

  void one(const float* in, float* out, size_t pixels, size_t first, std::vector<float>& block,
           std::vector<double>& sums) const {
    const size_t count = std::min(kBlock, pixels - first);
    for (size_t f = 0; f < features_; ++f)
      std::copy_n(in + f * pixels + first, count, block.data() + f * kBlock);
    std::fill(sums.begin(), sums.end(), 0.0);
    if (wide_) large_.sum(block.data(), count, classes_, sums.data());
    else small_.sum(block.data(), count, classes_, sums.data());
    for (size_t k = 0; k < classes_; ++k)
      for (size_t p = 0; p < count; ++p)
        out[k * pixels + first + p] = float(sums[p * classes_ + k] / double(count_));
  }

  size_t features_, classes_, count_;
  bool wide_ = false;
  Trees<uint16_t> small_;
  Trees<uint32_t> large_;
};

}  // namespace

PYBIND11_MODULE(_forest, m) {
  py::class_<Forest>(m, "Forest")
      .def(py::init<py::sequence, size_t, size_t>(), py::arg("trees"), py::arg("features"),
           py::arg("classes"))
      .def("predict", &Forest::predict, py::arg("x").noconvert(), py::arg("threads") = 1);
}
