// Vectors of four and eight floats in the compiler's own notation, so that one source serves
// SSE, AVX2 and NEON; exp and log of whole vectors; transposes.
#pragma once

#include <cstdint>
#include <cstring>

#define INLINE inline __attribute__((always_inline))

#if defined(__x86_64__)
#define WSSEG_HAS_AVX2 1
#define AVX2 __attribute__((target("avx2,fma")))
#endif

#pragma GCC diagnostic ignored "-Wpsabi"  // every function that takes a vector is inlined

namespace wsseg {

typedef float f4 __attribute__((vector_size(16)));
typedef float f8 __attribute__((vector_size(32)));
typedef int32_t i4 __attribute__((vector_size(16)));
typedef int32_t i8 __attribute__((vector_size(32)));

template <class F> struct Vector;
template <> struct Vector<f4> { typedef i4 Int; static const int lanes = 4; };
template <> struct Vector<f8> { typedef i8 Int; static const int lanes = 8; };

INLINE bool has_avx2() {
#ifdef WSSEG_HAS_AVX2
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

template <class F> INLINE F load(const float* from) {
    F x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

template <class F> INLINE void store(float* to, F x) { std::memcpy(to, &x, sizeof x); }

template <int... I, class F> INLINE F shuffle(F a, F b) {
#if defined(__clang__) || __GNUC__ >= 12
    return __builtin_shufflevector(a, b, I...);
#else
    return __builtin_shuffle(a, b, (typename Vector<F>::Int){I...});
#endif
}

template <class F> INLINE F larger(F a, F b) { return a > b ? a : b; }

// The largest lane, and the sum of the lanes, in every lane.
INLINE f4 all_max(f4 x) {
    x = larger(x, shuffle<2, 3, 0, 1>(x, x));
    return larger(x, shuffle<1, 0, 3, 2>(x, x));
}
INLINE f8 all_max(f8 x) {
    x = larger(x, shuffle<4, 5, 6, 7, 0, 1, 2, 3>(x, x));
    x = larger(x, shuffle<2, 3, 0, 1, 6, 7, 4, 5>(x, x));
    return larger(x, shuffle<1, 0, 3, 2, 5, 4, 7, 6>(x, x));
}
INLINE f4 all_sum(f4 x) {
    x += shuffle<2, 3, 0, 1>(x, x);
    return x + shuffle<1, 0, 3, 2>(x, x);
}
INLINE f8 all_sum(f8 x) {
    x += shuffle<4, 5, 6, 7, 0, 1, 2, 3>(x, x);
    x += shuffle<2, 3, 0, 1, 6, 7, 4, 5>(x, x);
    return x + shuffle<1, 0, 3, 2, 5, 4, 7, 6>(x, x);
}

// The whole number next to x, |x| < 2^22. Wrong under -ffast-math, which drops the two sums.
template <class F> INLINE F nearest(F x) {
    const float magic = 12582912.0f;  // 1.5 * 2^23: its unit in the last place is 1
    F shifted = x + magic;
    return shifted - magic;
}

// e^x for x <= 88 with a relative error near 1e-7; 0 below -87. Coefficients: Cephes, expf.
template <class F> INLINE F exp(F x) {
    typedef typename Vector<F>::Int Int;
    const F zero = {};
    F n = nearest(x * 1.44269504f);
    F r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    F p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    Int exponent = (__builtin_convertvector(n, Int) + 127) << 23;
    F power;
    std::memcpy(&power, &exponent, sizeof power);
    return x > -87.0f ? p * power : zero;
}

// The natural logarithm of a positive normal x. Coefficients: Cephes, logf.
template <class F> INLINE F log(F x) {
    typedef typename Vector<F>::Int Int;
    Int bits;
    std::memcpy(&bits, &x, sizeof bits);
    Int e = (bits - 0x3f3504f3) >> 23;  // mantissa from sqrt(1/2) to sqrt(2)
    bits -= e << 23;
    F m;
    std::memcpy(&m, &bits, sizeof m);
    m = m - 1.0f;
    F n = __builtin_convertvector(e, F), z = m * m;
    F p = m * 7.0376836292e-2f - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    return m + (p * m * z - z * 0.5f - n * 2.12194440e-4f) + n * 0.693359375f;
}

INLINE void transpose(f4 (&r)[4]) {
    f4 a = shuffle<0, 4, 1, 5>(r[0], r[1]), b = shuffle<2, 6, 3, 7>(r[0], r[1]);
    f4 c = shuffle<0, 4, 1, 5>(r[2], r[3]), d = shuffle<2, 6, 3, 7>(r[2], r[3]);
    r[0] = shuffle<0, 1, 4, 5>(a, c);
    r[1] = shuffle<2, 3, 6, 7>(a, c);
    r[2] = shuffle<0, 1, 4, 5>(b, d);
    r[3] = shuffle<2, 3, 6, 7>(b, d);
}

INLINE void transpose(f8 (&r)[8]) {
    f8 s[8], t[8];
    for (int i = 0; i < 8; i += 2) {
        s[i] = shuffle<0, 8, 1, 9, 4, 12, 5, 13>(r[i], r[i + 1]);
        s[i + 1] = shuffle<2, 10, 3, 11, 6, 14, 7, 15>(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; ++j) {
            t[i + 2 * j] = shuffle<0, 1, 8, 9, 4, 5, 12, 13>(s[i + j], s[i + j + 2]);
            t[i + 2 * j + 1] = shuffle<2, 3, 10, 11, 6, 7, 14, 15>(s[i + j], s[i + j + 2]);
        }
    for (int i = 0; i < 4; ++i) {
        r[i] = shuffle<0, 1, 2, 3, 8, 9, 10, 11>(t[i], t[i + 4]);
        r[i + 4] = shuffle<4, 5, 6, 7, 12, 13, 14, 15>(t[i], t[i + 4]);
    }
}

}  // namespace wsseg
