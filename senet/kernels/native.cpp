// The eight sweeps of plain_sweeps.py as compiled loops: same names, same formulas, one pass over the wide map each.
//
// A map is cut into chunks that stay in the L2 cache (part of a plane, or some rows of channels), and a chunk into
// tiles that stay in the L1 cache. How it is cut depends on its shape alone, so results do not depend on the threads.
// float and double are computed in themselves, the half formats in float. No -ffast-math: NaN has to survive.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <vector>

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace {

using Index = int64_t;

constexpr Index TILE = 1024;              // elements
constexpr Index CHUNK = 1 << 15;          // elements of a plane, a multiple of TILE
constexpr Index CHUNK_OF_ROWS = 1 << 16;  // elements of rows of channels
constexpr Index ROWS = 64;                // so many are summed up in float before double takes over

// ---- dtypes

enum Dtype : int { FLOAT, DOUBLE, BFLOAT16, FLOAT16 };

struct bfloat16 { uint16_t bits; };
struct float16 { uint16_t bits; };

inline const float* widen(const bfloat16* from, float* to, Index count) {
#pragma omp simd
  for (Index i = 0; i < count; ++i) {
    const uint32_t bits = uint32_t(from[i].bits) << 16;
    std::memcpy(to + i, &bits, sizeof bits);
  }
  return to;
}

inline void narrow(const float* from, bfloat16* to, Index count) {
#pragma omp simd
  for (Index i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, from + i, sizeof bits);
    const uint32_t to_even = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    to[i].bits = uint16_t((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : to_even);
  }
}

#if defined(__F16C__)  // not every compiler that has _Float16 vectorises its conversions

inline const float* widen(const float16* from, float* to, Index count) {
  Index i = 0;
  for (; i + 8 <= count; i += 8) _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(from + i))));
  for (; i < count; ++i) to[i] = _cvtsh_ss(from[i].bits);
  return to;
}

inline void narrow(const float* from, float16* to, Index count) {
  Index i = 0;
  for (; i + 8 <= count; i += 8)
    _mm_storeu_si128((__m128i*)(to + i), _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
  for (; i < count; ++i) to[i].bits = _cvtss_sh(from[i], _MM_FROUND_TO_NEAREST_INT);
}

#else

inline const float* widen(const float16* from, float* to, Index count) {
  for (Index i = 0; i < count; ++i) to[i] = float(((const _Float16*)from)[i]);
  return to;
}

inline void narrow(const float* from, float16* to, Index count) {
  for (Index i = 0; i < count; ++i) ((_Float16*)to)[i] = _Float16(from[i]);
}

#endif

// ---- vectors: below, E is a vector of A, or A itself

#if defined(__AVX512F__)  // the machine's: longer ones, GCC takes apart into single values
constexpr Index BYTES = 64;
#elif defined(__AVX__)
constexpr Index BYTES = 32;
#else
constexpr Index BYTES = 16;
#endif

template <class A> struct Lanes {
  static constexpr Index count = BYTES / sizeof(A);
  typedef A Vector __attribute__((vector_size(BYTES)));
};
template <class A> using Vector = typename Lanes<A>::Vector;

template <class E, class A> inline E load(const A* from) {
  E e;
  std::memcpy(&e, from, sizeof e);
  return e;
}
template <class E, class A> inline void store(A* to, E e) { std::memcpy(to, &e, sizeof e); }

template <class E, class A> inline E all(A a) { return a - E{}; }  // keeps the sign of zero

template <class F> inline float each_lane(float x, F f) { return f(x); }
template <class F> inline double each_lane(double x, F f) { return f(x); }
template <class E, class F> inline E each_lane(E x, F f) {
  for (size_t i = 0; i < sizeof(E) / sizeof(x[0]); ++i) x[i] = f(x[i]);
  return x;
}

// The sum of the lanes, by halves.
template <class A, Index bytes = BYTES, class V> inline A total(V v) {
  if constexpr (bytes == sizeof(A)) return load<A>((const A*)&v);
  else {
    typedef A Half __attribute__((vector_size(bytes / 2)));
    const auto* halves = (const A*)&v;
    return total<A, bytes / 2>(load<Half>(halves) + load<Half>(halves + bytes / 2 / sizeof(A)));
  }
}

// Keeps a load from being masked by what is done with it: masked loads are slow.
template <class E> inline E whole(E e) {
#if defined(__AVX512F__)
  asm("" : "+v"(e));
#endif
  return e;
}

// Zeros instead of the first lanes, which have been added already.
template <class A> inline Vector<A> without(Index first, Vector<A> v) {
  Vector<A> number;
  for (Index i = 0; i < Lanes<A>::count; ++i) number[i] = A(i);
  return number >= A(first) ? v : Vector<A>{};
}

// ---- activations: value and slope

// e^x for x <= 0: Cody and Waite's reduction, the Cephes library's polynomial. Below -87 it stays at e^-87.
template <class E> inline E exp_negative(E x, float) {
  x = x < -87.f ? all<E>(-87.f) : x;
  const E shifted = x * 1.44269504f + 12582912.f;  // its low bits hold round(x / ln 2)
  const E n = shifted - 12582912.f;
  const E r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  E p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * r * r + r) + 1.f;
  using Bits = std::conditional_t<std::is_same_v<E, float>, uint32_t, Vector<uint32_t>>;
  Bits power;
  std::memcpy(&power, &shifted, sizeof power);
  power = (power << 23) + 0x3f800000u;  // 2^n
  return p * load<E>((const float*)&power);
}
template <class E> inline E exp_negative(E x, double) {
  return each_lane(x, [](double y) { return std::exp(y); });
}

// P(Z > x) e^(x*x/2) of the standard normal Z, for x >= 0; in float a polynomial fitted to 5e-8 of its value.
template <class E> inline E normal_tail(E x, float) {
  const E t = 1.f / (1.f + 0.25f * x);
  E p = t * 2.66510006e-02f - 1.57400876e-01f;
  p = p * t + 3.05809379e-01f;
  p = p * t - 2.17137858e-01f;
  p = p * t + 2.09827870e-01f;
  p = p * t + 2.93743256e-02f;
  p = p * t + 1.04691848e-01f;
  p = p * t + 9.83782411e-02f;
  p = p * t + 9.98060554e-02f;
  return p * t;
}
template <class E> inline E normal_tail(E x, double) {
  return each_lane(x, [](double y) { return y < 37 ? 0.5 * std::erfc(y * M_SQRT1_2) * std::exp(y * y / 2) : 0.0; });
}

template <class E> struct Point { E value, slope; };

enum Act : int { NONE, RELU, RELU6, SILU, HARD_SWISH, GELU };

template <Act act, class A, class E> inline Point<E> activate(E u) {
  [[maybe_unused]] const E zero{}, one = all<E>(A(1)), six = all<E>(A(6));
  if constexpr (act == RELU) return {u < zero ? zero : u, u <= zero ? zero : one};
  if constexpr (act == RELU6)
    return {u < zero ? zero : (u > six ? six : u), u > zero ? (u < six ? one : zero) : zero};
  if constexpr (act == HARD_SWISH) {
    const E gate = u + A(3);
    return {u * (gate < zero ? zero : (gate > six ? six : gate)) * A(1. / 6),
            u <= A(-3) ? zero : (u >= A(3) ? one : u * A(1. / 3) + A(0.5))};
  }
  if constexpr (act == SILU) {
    const E e = exp_negative(u < zero ? u : -u, A{}), inverse = one / (one + e);
    const E s = u < zero ? e * inverse : inverse;
    return {u * s, s + u * s * (one - s)};
  }
  if constexpr (act == GELU) {
    const E size = u < zero ? -u : u;
    const E e = exp_negative(size * size * A(-0.5), A{});
    const E tail = e * normal_tail(size, A{}), normal = u < zero ? tail : one - tail;
    return {u * normal, normal + u * e * A(0.3989422804014327)};
  }
  return {u, one};
}

// ---- what a sweep goes over

struct Map {
  Index images, channels, pixels;
  Dtype dtype;
  int last;  // channels lie last
  int threads;

  Index series() const { return last ? images : images * channels; }  // runs that chunks are cut from
  Index width() const { return last ? channels : 1; }                 // sums that a chunk has
  Index chunks() const {                                              // of a series
    const Index most = last ? std::clamp<Index>(CHUNK_OF_ROWS / channels, 1, ROWS) : CHUNK;
    return (pixels + most - 1) / most;
  }
  int team() const { return int(std::min<Index>(threads, 1 + images * channels * pixels / CHUNK)); }
};

// Rows that lie one after the other: of channels (Wide, all of them or part of one row), or a single one of pixels.
struct Tile {
  Index k, offset, rows, length, start;  // k: of the first coefficient; start: within a row
  Index count() const { return rows * length; }
};

// f(E{}, i, c) for every element i, with c its place in the row. The last vector of a row goes over some elements
// again: f must not mind.
template <class A, class F> inline void each(const Tile& tile, F f) {
  constexpr Index step = Lanes<A>::count;
  for (Index row = 0; row < tile.count(); row += tile.length) {
    Index c = 0;
    for (; c + step <= tile.length; c += step) f(Vector<A>{}, row + c, c);
    if (c == tile.length) continue;
    if (c) f(Vector<A>{}, row + tile.length - step, tile.length - step);
    else for (; c < tile.length; ++c) f(A{}, row + c, c);
  }
}

template <class A> alignas(64) constexpr A zeros[TILE] = {};

// A coefficient (N, C) over one tile: a value a channel where the tile runs over channels, else a single one.
template <class A, bool Wide> struct Coefficient {
  const A* values;
  Coefficient(const A* coefficient, Index k) : values(coefficient ? coefficient + k : zeros<A>) {}
};
template <class E, class A, bool Wide> inline E at(const Coefficient<A, Wide>& coefficient, Index i) {
  if constexpr (Wide) return load<E>(coefficient.values + i);
  else return all<E>(coefficient.values[0]);
}

// Tiles of a map as A, in place or converted in a buffer.
template <class A> struct Reader {
  Dtype dtype;
  alignas(64) A buffer[TILE];
  explicit Reader(const Map& map) : dtype(map.dtype) {}
  const A* operator()(const void* map, const Tile& tile) {
    if constexpr (std::is_same_v<A, float>) {
      if (dtype == BFLOAT16) return widen((const bfloat16*)map + tile.offset, buffer, tile.count());
      if (dtype == FLOAT16) return widen((const float16*)map + tile.offset, buffer, tile.count());
    }
    return (const A*)map + tile.offset;
  }
};

template <class A> struct Writer {
  Dtype dtype;
  alignas(64) A buffer[TILE];
  explicit Writer(const Map& map) : dtype(map.dtype) {}
  A* begin(void* map, const Tile& tile) {
    return dtype == BFLOAT16 || dtype == FLOAT16 ? buffer : (A*)map + tile.offset;
  }
  void end(void* map, const Tile& tile) {
    if constexpr (std::is_same_v<A, float>) {
      if (dtype == BFLOAT16) narrow(buffer, (bfloat16*)map + tile.offset, tile.count());
      if (dtype == FLOAT16) narrow(buffer, (float16*)map + tile.offset, tile.count());
    }
  }
};

// Part of a series that stays in the cache.
template <bool Wide> struct Chunk {
  Index series, piece, k, offset, rows, length;
  Index pixels() const { return Wide ? rows : length; }

  template <class Body> void tiles(Body body) const {
    const Index together = std::clamp<Index>(TILE / length, 1, rows);
    for (Index row = 0; row < rows; row += together)
      for (Index start = 0; start < length; start += TILE)
        body(Tile{k + (Wide ? start : 0), offset + row * length + start, std::min(together, rows - row),
                  std::min(TILE, length - start), start});
  }
};

template <bool Wide, class Body> void walk(const Map& map, Body body) {
  const Index chunks = map.chunks(), tasks = map.series() * chunks;
#pragma omp parallel for schedule(static) num_threads(map.team())
  for (Index task = 0; task < tasks; ++task) {
    Index series = task, piece = 0, begin = 0, count = map.pixels;
    if (chunks > 1) {  // a small plane is done sooner than a division
      series = task / chunks, piece = task % chunks;
      begin = map.pixels * piece / chunks, count = map.pixels * (piece + 1) / chunks - begin;
    }
    const Index offset = (series * map.pixels + begin) * map.width();
    body(Chunk<Wide>{series, piece, series * map.width(), offset, Wide ? count : 1, Wide ? map.channels : count});
  }
}

// ---- sums

// Memory for vectors: one that crosses a cache line is slow to be read just after it was written.
template <class A> struct Aligned {
  using value_type = A;
  A* allocate(size_t count) { return (A*)::operator new(count * sizeof(A), std::align_val_t(64)); }
  void deallocate(A* memory, size_t) { ::operator delete(memory, std::align_val_t(64)); }
  template <class B, class... Given> void construct(B* place, Given... given) {
    if constexpr (sizeof...(Given)) new (place) B(given...);
  }
};

// Where a chunk leaves its sums: in the result where it is alone in its series, else in a place of its own.
template <class A, int S> struct Sums {
  A* result[S];
  Index width, chunks, apart;
  std::vector<A, Aligned<A>> partial;

  Sums(const Map& map, A* const (&results)[S])
      : width(map.width()), chunks(map.chunks()), apart(map.last ? (width + 15) / 16 * 16 : 1) {
    std::copy(results, results + S, result);
    if (chunks > 1) partial.resize(map.series() * chunks * S * apart);
  }
  A* at(Index series, Index piece, int j) {
    return chunks == 1 ? result[j] + series * width : partial.data() + ((series * chunks + piece) * S + j) * apart;
  }
};

// What is summed up, S values an element; written out, since compilers keep no array that a loop indexes in registers.
template <class E, int S> struct Terms {
  E a, b, c;
  Terms(E a = E{}, E b = E{}, E c = E{}) : a(a), b(b), c(c) {}
  void operator+=(const Terms& other) {
    a += other.a;
    if constexpr (S > 1) b += other.b;
    if constexpr (S > 2) c += other.c;
  }
  template <class F> auto each(F f) const {
    using R = decltype(f(a));
    return Terms<R, S>(f(a), S > 1 ? f(b) : R{}, S > 2 ? f(c) : R{});
  }
  template <class A> static Terms at(A* const (&from)[S], Index i) {
    return {load<E>(from[0] + i), load<E>(from[S > 1] + i), load<E>(from[S - 1] + i)};
  }
  template <class A> void store_at(A* const (&to)[S], Index i) const {
    store(to[0] + i, a);
    if constexpr (S > 1) store(to[1] + i, b);
    if constexpr (S > 2) store(to[2] + i, c);
  }
};

// Adds up the terms of a chunk: along a row of pixels ...
template <class A, int S, bool Wide> struct Adder {
  Terms<double, S> sums;
  A* const (&to)[S];
  Adder(A* const (&results)[S], Index) : to(results) {}

  template <class F> void operator()(const Tile& tile, F terms) {
    using V = Vector<A>;
    constexpr Index step = Lanes<A>::count;
    const Index count = tile.length;
    Terms<V, S> even, odd;  // two, since an addition takes several cycles
    Index i = 0;
    for (; i + 2 * step <= count; i += 2 * step) {
      even += terms(V{}, i, i);
      odd += terms(V{}, i + step, i + step);
    }
    for (; i + step <= count; i += step) even += terms(V{}, i, i);
    if (i && i < count) {  // the last vector begins before i
      const Index begin = count - step;
      odd += terms(V{}, begin, begin).each([=](V v) { return without<A>(i - begin, v); });
      i = count;
    }
    even += odd;
    sums += even.each([](V v) { return double(total<A>(v)); });
    for (; i < count; ++i) sums += terms(A{}, i, i).each([](A v) { return double(v); });
  }
  void finish() const { sums.each([](double v) { return A(v); }).store_at(to, 0); }
};

// ... or channel by channel.
template <class A, int S> struct Adder<A, S, true> {
  A* const (&to)[S];
  const Index width;
  std::vector<A, Aligned<A>> others;  // the sums of every other row, where a tile has but one
  bool odd = false;

  Adder(A* const (&results)[S], Index width) : to(results), width(width) {
    for (A* sums : to) std::fill_n(sums, width, A(0));
    if (width > TILE / 2) {
      others.resize(S * width);
      std::fill(others.begin(), others.end(), A(0));
    }
  }
  template <class F> void operator()(const Tile& tile, F terms) {
    constexpr Index step = Lanes<A>::count;
    if (!others.empty() && tile.start == 0) odd = !odd;
    A* sums_of[S];
    for (int j = 0; j < S; ++j) sums_of[j] = odd ? others.data() + j * width : to[j];
    const auto add_rows = [&](auto rows, Index row) {
      const auto add = [&]<class E>(E, Index c) {
        auto sum = Terms<E, S>::at(sums_of, tile.start + c);
        sum += sum_of_rows<E, rows>(terms, row + c, c, tile.length);
        sum.store_at(sums_of, tile.start + c);
      };
      Index c = 0;
      for (; c + step <= tile.length; c += step) add(Vector<A>{}, c);
      for (; c < tile.length; ++c) add(A{}, c);
    };
    // Rows are added up among themselves before they are added to what was: sums of many have fewer roundings.
    Index row = 0;
    const auto all_of = [&](auto rows) {
      for (; row + rows * tile.length <= tile.count(); row += rows * tile.length) add_rows(rows, row);
    };
    all_of(std::integral_constant<int, 8>{});
    all_of(std::integral_constant<int, 4>{});
    all_of(std::integral_constant<int, 2>{});
    all_of(std::integral_constant<int, 1>{});
  }
  template <class E, int rows, class F> static Terms<E, S> sum_of_rows(F& terms, Index i, Index c, Index apart) {
    if constexpr (rows == 1) {
      return terms(E{}, i, c);
    } else {
      Terms<E, S> sum = sum_of_rows<E, rows / 2>(terms, i, c, apart);
      sum += sum_of_rows<E, rows / 2>(terms, i + rows / 2 * apart, c, apart);
      return sum;
    }
  }
  void finish() const {
    if (others.empty()) return;
    for (int j = 0; j < S; ++j)
      for (Index c = 0; c < width; ++c) to[j][c] += others[j * width + c];
  }
};

// The sums over every plane of what `terms_of` a tile hands to its adder, times `factor`.
template <bool Wide, class A, int S, class F>
void sum(const Map& map, A* const (&result)[S], double factor, F terms_of) {
  Sums<A, S> sums(map, result);
  walk<Wide>(map, [&](const Chunk<Wide>& chunk) {
    A* to[S];
    for (int j = 0; j < S; ++j) to[j] = sums.at(chunk.series, chunk.piece, j);
    Adder<A, S, Wide> adder(to, sums.width);
    chunk.tiles([&](const Tile& tile) { terms_of(tile, [&](auto terms) { adder(tile, terms); }); });
    adder.finish();
  });
  if (sums.chunks == 1 && factor == 1) return;
#pragma omp parallel for schedule(static) num_threads(map.team())
  for (Index series = 0; series < map.series(); ++series)
    for (int j = 0; j < S; ++j)
      for (Index c = 0; c < sums.width; ++c) {
        double sum = 0;
        for (Index piece = 0; piece < sums.chunks; ++piece) sum += sums.at(series, piece, j)[c];
        result[j][series * sums.width + c] = A(sum * factor);
      }
}

// ---- the sweeps

// Of every chunk: a center, and about it the mean and the squares. The center is the mean but for its rounding, which
// is `rest`, what is added up about it: where the mean is large, chunks lie apart by less than that rounding.
template <bool Wide, class A> void moments(const Map& map, const void* x, A* mean, A* rest, A* m2) {
  Sums<A, 3> sums(map, {mean, m2, rest});
  walk<Wide>(map, [&](const Chunk<Wide>& chunk) {  // read from memory once, and then from the cache
    Reader<A> read(map);
    const A count = A(chunk.pixels());
    A* center[1] = {sums.at(chunk.series, chunk.piece, 0)};
    A* about[2] = {sums.at(chunk.series, chunk.piece, 1), sums.at(chunk.series, chunk.piece, 2)};
    Adder<A, 1, Wide> add(center, sums.width);
    chunk.tiles([&](const Tile& tile) {
      const A* v = read(x, tile);
      add(tile, [&]<class E>(E, Index i, Index) { return Terms<E, 1>(load<E>(v + i)); });
    });
    add.finish();
    for (Index c = 0; c < sums.width; ++c) center[0][c] /= count;
    Adder<A, 2, Wide> add_about(about, sums.width);
    chunk.tiles([&](const Tile& tile) {
      const A* v = read(x, tile);
      const Coefficient<A, Wide> m(center[0], Wide ? tile.start : 0);
      add_about(tile, [&]<class E>(E, Index i, Index c) {
        const E d = load<E>(v + i) - at<E>(m, c);
        return Terms<E, 2>(d * d, d);
      });
    });
    add_about.finish();
    for (Index c = 0; c < sums.width; ++c) {
      about[1][c] /= count;
      about[0][c] -= count * about[1][c] * about[1][c];
    }
  });
  if (sums.chunks == 1) return;
#pragma omp parallel for schedule(static) num_threads(map.team())
  for (Index series = 0; series < map.series(); ++series)
    for (Index c = 0; c < sums.width; ++c) {  // Chan's rule
      const auto end = [&](Index i) { return map.pixels * (i + 1) / sums.chunks; };
      const auto count = [&](Index i) { return double(end(i) - end(i - 1)); };
      const auto mean_of = [&](Index i) { return double(sums.at(series, i, 0)[c]) + double(sums.at(series, i, 2)[c]); };
      double center = 0, squares = 0;
      for (Index i = 0; i < sums.chunks; ++i) center += count(i) * mean_of(i);
      center /= double(map.pixels);
      for (Index i = 0; i < sums.chunks; ++i) {
        const double apart = mean_of(i) - center;
        squares += sums.at(series, i, 1)[c] + count(i) * apart * apart;
      }
      mean[series * sums.width + c] = A(center);
      rest[series * sums.width + c] = A(center - A(center));
      m2[series * sums.width + c] = A(squares);
    }
}

template <class F> void either(bool flag, F f) { flag ? f(std::true_type{}) : f(std::false_type{}); }

// A sweep that writes a map, tile by tile.
template <bool Wide, class A, class F> void write(const Map& map, void* out, F f) {
  walk<Wide>(map, [&](const Chunk<Wide>& chunk) {
    Writer<A> writer(map);
    chunk.tiles([&](const Tile& tile) {
      f(tile, writer.begin(out, tile));
      writer.end(out, tile);
    });
  });
}

template <bool Wide, class A>
void affine(const Map& map, void* out, const void* x, const A* center, const A* scale, const A* shift,
            const void* shortcut, bool relu) {
  either(shortcut, [&](auto has_shortcut) {
    write<Wide, A>(map, out, [&](const Tile& tile, A* to) {
      Reader<A> read_x(map), read_shortcut(map);
      const Coefficient<A, Wide> m(center, tile.k), a(scale, tile.k), b(shift, tile.k);
      const A* v = read_x(x, tile);
      const A* w = has_shortcut ? read_shortcut(shortcut, tile) : nullptr;
      each<A>(tile, [&]<class E>(E, Index i, Index c) {
        E u = at<E>(a, c) * (load<E>(v + i) - at<E>(m, c)) + at<E>(b, c);
        if constexpr (has_shortcut) u += load<E>(w + i);
        store(to + i, relu ? activate<RELU, A>(u).value : u);
      });
    });
  });
}

template <bool Wide, class A>
void affine_backward(const Map& map, void* g1, A* a, A* b, const void* g, const void* out, const void* x,
                     const A* center) {
  A* const result[2] = {a, b};
  either(out, [&](auto has_out) {
    sum<Wide>(map, result, 1, [&](const Tile& tile, auto add) {
      Reader<A> read_g(map), read_out(map), read_x(map);
      Writer<A> writer(map);
      const Coefficient<A, Wide> m(center, tile.k);
      const A *from = read_g(g, tile), *v = read_x(x, tile);
      const A* y = has_out ? read_out(out, tile) : nullptr;
      A* to = has_out ? writer.begin(g1, tile) : nullptr;
      add([&]<class E>(E, Index i, Index c) {
        E passed = load<E>(from + i);
        if constexpr (has_out) {
          passed = load<E>(y + i) <= E{} ? E{} : whole(passed);
          store(to + i, passed);
        }
        return Terms<E, 2>(passed, passed * (load<E>(v + i) - at<E>(m, c)));
      });
      if (has_out) writer.end(g1, tile);
    });
  });
}

template <bool Wide, class A>
void spread(const Map& map, void* dx, const void* g, const void* x, const A* center, const A* p, const A* q,
            const A* r) {
  either(q, [&](auto has_q) {
    write<Wide, A>(map, dx, [&](const Tile& tile, A* to) {
      Reader<A> read_g(map), read_x(map);
      const Coefficient<A, Wide> m(center, tile.k), P(p, tile.k), Q(q, tile.k), R(r, tile.k);
      const A* from = read_g(g, tile);
      const A* v = has_q ? read_x(x, tile) : nullptr;
      each<A>(tile, [&]<class E>(E, Index i, Index c) {
        E d = at<E>(P, c) * load<E>(from + i) + at<E>(R, c);
        if constexpr (has_q) d += at<E>(Q, c) * (load<E>(v + i) - at<E>(m, c));
        store(to + i, d);
      });
    });
  });
}

// u = scale * (x - center) + shift, or x itself without a scale, and h = act(u); and what x is measured from.
template <Act act, class A, bool Wide> struct Activated {
  bool raw;
  Coefficient<A, Wide> m, a, b;
  Activated(const A* center, const A* scale, const A* shift, Index k)
      : raw(!scale), m(center, k), a(scale, k), b(shift, k) {}

  template <class V> V centred(V x, Index c) const { return x - at<V>(m, c); }
  template <class V> Point<V> operator()(V x, Index c) const {
    return activate<act, A>(raw ? x : at<V>(a, c) * centred(x, c) + at<V>(b, c));
  }
};

template <bool Wide, Act act, class A>
void squeeze_act(const Map& map, A* mean, A* d0, A* d1, const void* x, const A* center, const A* scale,
                 const A* shift) {
  A* const result[3] = {mean, d0, d1};
  sum<Wide>(map, result, 1 / double(map.pixels), [&](const Tile& tile, auto add) {
    Reader<A> read(map);
    const A* v = read(x, tile);
    const Activated<act, A, Wide> h(center, scale, shift, tile.k);
    add([&]<class E>(E, Index i, Index c) {
      const E value = load<E>(v + i);
      const auto point = h(value, c);
      return Terms<E, 3>(point.value, point.slope, point.slope * h.centred(value, c));
    });
  });
}

template <bool Wide, Act act, class A>
void gate_act(const Map& map, void* out, const void* x, const A* center, const A* scale, const A* shift, const A* s) {
  write<Wide, A>(map, out, [&](const Tile& tile, A* to) {
    Reader<A> read(map);
    const A* v = read(x, tile);
    const Activated<act, A, Wide> h(center, scale, shift, tile.k);
    const Coefficient<A, Wide> gate(s, tile.k);
    each<A>(tile, [&]<class E>(E, Index i, Index c) { store(to + i, at<E>(gate, c) * h(load<E>(v + i), c).value); });
  });
}

template <bool Wide, Act act, class A>
void gate_act_backward(const Map& map, A* p0, A* p1, A* p2, const void* g, const void* x, const A* center,
                       const A* scale, const A* shift) {
  A* const result[3] = {p0, p1, p2};
  sum<Wide>(map, result, 1, [&](const Tile& tile, auto add) {
    Reader<A> read_g(map), read_x(map);
    const A *from = read_g(g, tile), *v = read_x(x, tile);
    const Activated<act, A, Wide> h(center, scale, shift, tile.k);
    add([&]<class E>(E, Index i, Index c) {
      const E value = load<E>(v + i), gradient = load<E>(from + i);
      const auto point = h(value, c);
      const E gu = gradient * point.slope;
      return Terms<E, 3>(gradient * point.value, gu, gu * h.centred(value, c));
    });
  });
}

template <bool Wide, Act act, class A>
void spread_act(const Map& map, void* dx, const void* g, const void* x, const A* center, const A* scale,
                const A* shift, const A* p, const A* e, const A* q, const A* r) {
  write<Wide, A>(map, dx, [&](const Tile& tile, A* to) {
    Reader<A> read_g(map), read_x(map);
    const A *from = read_g(g, tile), *v = read_x(x, tile);
    const Activated<act, A, Wide> h(center, scale, shift, tile.k);
    const Coefficient<A, Wide> P(p, tile.k), B(e, tile.k), Q(q, tile.k), R(r, tile.k);
    each<A>(tile, [&]<class E>(E, Index i, Index c) {
      const E value = load<E>(v + i);
      E d = h(value, c).slope * (at<E>(P, c) * load<E>(from + i) + at<E>(B, c)) + at<E>(R, c);
      if (q) d += at<E>(Q, c) * h.centred(value, c);
      store(to + i, d);
    });
  });
}

// ---- from codes to types

template <class F> void with_types(const Map& map, F f) {
  either(map.last, [&](auto wide) { map.dtype == DOUBLE ? f(wide, double{}) : f(wide, float{}); });
}

template <Act act> using Constant = std::integral_constant<Act, act>;

template <class F> void with_types(const Map& map, int act, F f) {
  with_types(map, [&](auto wide, auto type) {
    switch (act) {
      case NONE: return f(wide, Constant<NONE>{}, type);
      case RELU: return f(wide, Constant<RELU>{}, type);
      case RELU6: return f(wide, Constant<RELU6>{}, type);
      case SILU: return f(wide, Constant<SILU>{}, type);
      case HARD_SWISH: return f(wide, Constant<HARD_SWISH>{}, type);
      case GELU: return f(wide, Constant<GELU>{}, type);
    }
  });
}

}  // namespace

// Maps are of map->dtype; coefficients and sums are float, or double beside double. A null pointer is an absent
// argument.
#define COEFFICIENT(name) ((const decltype(type)*)name)
#define SUMS(name) ((decltype(type)*)name)

extern "C" {

void senet_moments(const Map* map, void* mean, void* rest, void* m2, const void* x) {
  with_types(*map, [&](auto wide, auto type) { moments<wide>(*map, x, SUMS(mean), SUMS(rest), SUMS(m2)); });
}

void senet_affine(const Map* map, void* out, const void* x, const void* center, const void* scale, const void* shift,
                  const void* shortcut, int relu) {
  with_types(*map, [&](auto wide, auto type) {
    affine<wide>(*map, out, x, COEFFICIENT(center), COEFFICIENT(scale), COEFFICIENT(shift), shortcut, relu);
  });
}

void senet_affine_backward(const Map* map, void* g1, void* a, void* b, const void* g, const void* out, const void* x,
                           const void* center) {
  with_types(*map, [&](auto wide, auto type) {
    affine_backward<wide>(*map, g1, SUMS(a), SUMS(b), g, out, x, COEFFICIENT(center));
  });
}

void senet_spread(const Map* map, void* dx, const void* g, const void* x, const void* center, const void* p,
                  const void* q, const void* r) {
  with_types(*map, [&](auto wide, auto type) {
    spread<wide>(*map, dx, g, x, COEFFICIENT(center), COEFFICIENT(p), COEFFICIENT(q), COEFFICIENT(r));
  });
}

void senet_squeeze_act(const Map* map, void* mean, void* d0, void* d1, const void* x, const void* center,
                       const void* scale, const void* shift, int act) {
  with_types(*map, act, [&](auto wide, auto name, auto type) {
    squeeze_act<wide, name>(*map, SUMS(mean), SUMS(d0), SUMS(d1), x, COEFFICIENT(center), COEFFICIENT(scale),
                            COEFFICIENT(shift));
  });
}

void senet_gate_act(const Map* map, void* out, const void* x, const void* center, const void* scale, const void* shift,
                    const void* s, int act) {
  with_types(*map, act, [&](auto wide, auto name, auto type) {
    gate_act<wide, name>(*map, out, x, COEFFICIENT(center), COEFFICIENT(scale), COEFFICIENT(shift), COEFFICIENT(s));
  });
}

void senet_gate_act_backward(const Map* map, void* p0, void* p1, void* p2, const void* g, const void* x,
                             const void* center, const void* scale, const void* shift, int act) {
  with_types(*map, act, [&](auto wide, auto name, auto type) {
    gate_act_backward<wide, name>(*map, SUMS(p0), SUMS(p1), SUMS(p2), g, x, COEFFICIENT(center), COEFFICIENT(scale),
                                  COEFFICIENT(shift));
  });
}

void senet_spread_act(const Map* map, void* dx, const void* g, const void* x, const void* center, const void* scale,
                      const void* shift, const void* p, const void* e, const void* q, const void* r, int act) {
  with_types(*map, act, [&](auto wide, auto name, auto type) {
    spread_act<wide, name>(*map, dx, g, x, COEFFICIENT(center), COEFFICIENT(scale), COEFFICIENT(shift), COEFFICIENT(p),
                           COEFFICIENT(e), COEFFICIENT(q), COEFFICIENT(r));
  });
}

}  // extern "C"
