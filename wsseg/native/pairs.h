// How often the values of two maps meet. Maps are mostly flat, so runs are counted rather than
// pixels, and a run is followed a block at a time.
#pragma once

#include <cstdint>
#include <cstring>
#include <unordered_map>
#include <vector>

#include <sys/types.h>

namespace {

constexpr ssize_t kBlock = 32;

template <class T>
bool flat(const T* t, const T* p, T a, T b) {
  T odd = 0;
  for (ssize_t i = 0; i < kBlock; ++i) odd |= (t[i] ^ a) | (p[i] ^ b);
  return odd == 0;
}

// How many pixels come before the first that is odd, in memory's order.
template <class T>
ssize_t first(uint64_t odd) {
  return __builtin_ctzll(odd) / (8 * sizeof(T));
}

// Eight bytes full of one value, and eight bytes from memory.
template <class T>
uint64_t repeated(T value) {
  return value * (sizeof(T) == 1 ? 0x0101010101010101u : 0x0001000100010001u);
}

inline uint64_t word(const void* at) {
  uint64_t value;
  std::memcpy(&value, at, 8);
  return value;
}

// How many of the pixels in the next eight bytes are not odd.
template <class T>
ssize_t same(const T* t, const T* p, T a, T b) {
  const uint64_t odd = (word(t) ^ repeated(a)) | (word(p) ^ repeated(b));
  return odd ? first<T>(odd) : 8 / sizeof(T);
}

// Calls found(truth, prediction, length) for every run.
template <class T, class Found>
void runs(const T* t, const T* p, ssize_t n, Found found) {
  constexpr ssize_t step = 8 / sizeof(T);
  for (ssize_t i = 0; i < n;) {
    const T a = t[i], b = p[i];
    const ssize_t start = i++;
    ssize_t more = step;
    while (i + step <= n && (more = same(t + i, p + i, a, b)) == step) {
      i += step;
      while (i + kBlock <= n && flat(t + i, p + i, a, b)) i += kBlock;
    }
    if (i + step <= n) {
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
// than 255 ids, have a small table; others go to a hash table. A value may be below 1 << 17.
template <>
struct Counts<uint16_t> {
  static constexpr int kMost = 256;
  struct Tables {
    std::vector<uint16_t> number[2];  // 0: not met. All zero between two calls, as is count
    std::vector<int64_t> count;
    Tables() : number{std::vector<uint16_t>(1 << 17), std::vector<uint16_t>(1 << 17)},
               count(kMost * kMost) {}
  };
  static Tables& tables() {
    static thread_local Tables own;
    return own;
  }
  std::vector<uint32_t> value[2] = {{0}, {0}};
  std::vector<uint32_t> seen;
  std::unordered_map<uint64_t, int64_t> more;
  uint16_t* number[2] = {tables().number[0].data(), tables().number[1].data()};
  int64_t* count = tables().count.data();

  uint32_t of(int side, uint32_t v) {
    uint16_t& found = number[side][v];
    if (!found && value[side].size() < kMost) {
      value[side].push_back(v);
      found = static_cast<uint16_t>(value[side].size() - 1);
    }
    return found;
  }
  void add(uint32_t a, uint32_t b, int64_t n) {
    const uint32_t i = of(0, a), j = of(1, b);
    if (!i || !j) {
      more[static_cast<uint64_t>(a) << 32 | b] += n;
      return;
    }
    int64_t& own = count[i * kMost + j];
    if (!own) seen.push_back(i * kMost + j);
    own += n;
  }
  template <class F> void each(F f) {
    for (const uint32_t at : seen) f(value[0][at / kMost], value[1][at % kMost], count[at]);
    for (const auto& [code, n] : more) f(code >> 32, code & 0xffffffff, n);
  }
  // not in each(): memory may run out before, and the tables outlive this call
  ~Counts() {
    for (const uint32_t at : seen) count[at] = 0;
    for (const int side : {0, 1})
      for (const uint32_t v : value[side]) number[side][v] = 0;
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
    for (const uint16_t code : seen) f(code >> 8, code & 255, table[code]);
  }
  ~Counts() {
    for (const uint16_t code : seen) table[code] = 0;
  }
};
thread_local std::vector<int64_t> Counts<uint8_t>::table;

// Calls found(truth, prediction, pixels) once for every pair of values.
template <class T, class Found>
void pairs(const T* t, const T* p, ssize_t n, Found found) {
  Counts<T> counts;
  runs(t, p, n, [&](T a, T b, ssize_t length) { counts.add(a, b, length); });
  counts.each(found);
}

}  // namespace
