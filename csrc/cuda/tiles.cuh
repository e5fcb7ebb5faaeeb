// tiles.cuh: products of tiles in shared memory, by FMA instructions or by tensor cores.
//
// Contract: a thread block has two products. `multiply` adds a · bᵀ to ROWS × COLS accumulators.
// `hold` takes such a tile, after the kernel has transformed it, as the left operand of `add_held`,
// which adds its product with WIDTH columns of b to ROWS × WIDTH accumulators. A thread keeps
// accumulators of MINE rows: sums[r][c] belongs to row row(r) and to column col(c), or to column
// wide(c) in the tile of `add_held`. A row is shared by LANES neighbouring lanes, and `over_row`
// reduces a value over them.
//
// The left operand a is a `Left`, which `keep` makes once. The right operand b is a `Right`; shared
// memory has room for two of them. `fetch` starts to copy COLS rows of a matrix into a Right. The
// copy may be read after the next `arrive`, and the previous content may be read until the last
// `arrive` before the `fetch`. Thus one Right is copied while the other is multiplied. `arrive` is
// a barrier, which all threads of the block must call.
//
// `FmaTiles` and `MmaTiles` have the same interface, so that a kernel is written once.
#pragma once

#include "mma.cuh"

namespace needle {

constexpr int BLOCK = 256;         // threads per block
constexpr int ACCESS = 16;         // bytes that one instruction moves
constexpr int BANKS_GAP = ACCESS;  // padding of rows in shared memory, against bank conflicts

// A matrix in global memory, with any strides. Elements beyond its rows and columns count as 0.
template <class T>
struct Matrix {
  const T* data;
  int64_t row, col;    // strides
  int64_t rows, cols;  // numbers of rows and columns

  __device__ Matrix from(int64_t i, int64_t j) const {
    return {data + i * row + j * col, row, col, rows - i, cols - j};
  }
};

__device__ inline int at_most(int64_t n, int limit) {
  return n < limit ? static_cast<int>(n) : limit;
}

// Copies a tile of ROWS × COLS of a matrix to shared memory, where its rows are STRIDE elements
// apart. Aligned data is copied in packs. With ASYNC these copies are asynchronous (see mma.cuh).
// Registers are scarce, so that loops are unrolled only where a thread waits for its loads of
// packs.
template <int ROWS, int COLS, int STRIDE, bool ASYNC = false, class T>
__device__ void load_tile(const Matrix<T>& x, T* tile) {
  constexpr int W = ACCESS / sizeof(T);
  const bool packs = x.col == 1 && x.cols % W == 0 && x.row % W == 0 &&
                     reinterpret_cast<uint64_t>(x.data) % ACCESS == 0;
  const int rows = at_most(x.rows, ROWS), cols = at_most(x.cols, COLS);
  if (packs) {
#pragma unroll(ASYNC ? 1 : 2)
    for (int i = threadIdx.x; i < ROWS * COLS / W; i += BLOCK) {
      const int r = i / (COLS / W), c = i % (COLS / W) * W;
      const bool there = r < rows && c < cols;
      const auto* from =
          reinterpret_cast<const Pack<T, W>*>(there ? x.data + r * x.row + c : x.data);
      auto* to = reinterpret_cast<Pack<T, W>*>(tile + r * STRIDE + c);
      if constexpr (ASYNC)
        copy_async(to, from, there);
      else
        *to = there ? *from : Pack<T, W>{};
    }
  } else {
#pragma unroll 1
    for (int i = threadIdx.x; i < ROWS * COLS; i += BLOCK) {
      const int r = i / COLS, c = i % COLS;
      tile[r * STRIDE + c] = r < rows && c < cols ? x.data[r * x.row + c * x.col] : T{};
    }
  }
}

// ---- by FMA instructions ----------------------------------------------------------------------

// A thread keeps R × R accumulators in registers and uses each number that it reads from shared
// memory R times (Volkov and Demmel, 2008, as in gemm.cuh). A held tile is in shared memory. The
// operands may have any depth: each product copies them to shared memory panel by panel. `fetch`
// only remembers the matrix, so that copies do not overlap with arithmetic.
template <class T, int WIDTH_>
struct FmaTiles {
  using Number = T;
  using Sum = T;
  static constexpr int WIDTH = WIDTH_, SIDE = 16, R = is_same<T, float> ? 4 : 2;
  static constexpr int ROWS = R * SIDE, COLS = R * SIDE, LANES = SIDE;
  static constexpr int MINE = R, SCORES = R, WIDE = WIDTH / SIDE;
  static constexpr bool WHOLE = false;  // whether WIDTH always covers all columns of the result

  static constexpr int W = ACCESS / sizeof(T), P = WIDE < W ? WIDE : W, GAP = BANKS_GAP / sizeof(T);
  static constexpr int DEPTH = 32, STEP = DEPTH + GAP;       // panels of `multiply`
  static constexpr int CHUNK = 32, WIDE_STEP = WIDTH + GAP;  // panels of `add_held`
  static constexpr int HELD_STEP = COLS + GAP;
  static constexpr int PANELS = (ROWS + COLS) * STEP, WIDE_PANEL = CHUNK * WIDE_STEP;

  struct Shared {
    alignas(ACCESS) T panels[PANELS > WIDE_PANEL ? PANELS : WIDE_PANEL];
    alignas(ACCESS) T held[ROWS * HELD_STEP];
  };
  struct Held {};
  using Left = Matrix<T>;
  struct Right {
    Matrix<T> matrix;
    __device__ Right(Shared&, int) {}
    __device__ void fetch(const Matrix<T>& x) { matrix = x; }
  };

  static __device__ Left keep(const Matrix<T>& a, Shared&) { return a; }
  static __device__ void arrive() { __syncthreads(); }

  static __device__ int row(int r) { return threadIdx.x / SIDE + r * SIDE; }
  static __device__ int col(int c) { return threadIdx.x % SIDE + c * SIDE; }
  static __device__ int wide(int c) { return c / P * P * SIDE + threadIdx.x % SIDE * P + c % P; }

  template <class Combine>
  static __device__ T over_row(T value, Combine combine) {
    return over_lanes<LANES>(value, combine);
  }

  static __device__ void multiply(T (&sums)[MINE][SCORES], const Left& a, const Right& b,
                                  Shared& shared) {
    T *const left = shared.panels, *const right = left + ROWS * STEP;
    for (int64_t k = 0; k < a.cols; k += DEPTH) {
      __syncthreads();  // no thread reads the previous panels any more
      load_tile<ROWS, DEPTH, STEP>(a.from(0, k), left);
      load_tile<COLS, DEPTH, STEP>(b.matrix.from(0, k), right);
      __syncthreads();
#pragma unroll 2
      for (int d = 0; d < DEPTH; d += W) {
        Pack<T, W> y[SCORES];
#pragma unroll
        for (int c = 0; c < SCORES; ++c) y[c] = pack_at<W>(right + col(c) * STEP + d);
#pragma unroll
        for (int r = 0; r < MINE; ++r) {
          const Pack<T, W> x = pack_at<W>(left + row(r) * STEP + d);
#pragma unroll
          for (int c = 0; c < SCORES; ++c) {
#pragma unroll
            for (int i = 0; i < W; ++i) sums[r][c] += x.item[i] * y[c].item[i];
          }
        }
      }
    }
  }

  // The lanes that share a row are the only ones to write and read it. They are in one warp, so
  // that a barrier of the warp is enough.
  static __device__ Held hold(const T (&sums)[MINE][SCORES], Shared& shared) {
    __syncwarp();
#pragma unroll
    for (int r = 0; r < MINE; ++r) {
#pragma unroll
      for (int c = 0; c < SCORES; ++c) shared.held[row(r) * HELD_STEP + col(c)] = sums[r][c];
    }
    __syncwarp();
    return {};
  }

  // Uses the columns of b from `slice` on.
  static __device__ void add_held(T (&sums)[MINE][WIDE], const Held&, const Right& b, int64_t slice,
                                  Shared& shared) {
    for (int first = 0; first < COLS && first < b.matrix.rows; first += CHUNK) {
      __syncthreads();
      load_tile<CHUNK, WIDTH, WIDE_STEP>(b.matrix.from(first, slice), shared.panels);
      __syncthreads();
#pragma unroll 1
      for (int j = 0; j < CHUNK; j += W) {
        Pack<T, W> x[MINE];
#pragma unroll
        for (int r = 0; r < MINE; ++r) {
          x[r] = pack_at<W>(shared.held + row(r) * HELD_STEP + first + j);
        }
#pragma unroll
        for (int i = 0; i < W; ++i) {
#pragma unroll
          for (int c = 0; c < WIDE; c += P) {
            const Pack<T, P> y = pack_at<P>(shared.panels + (j + i) * WIDE_STEP + wide(c));
#pragma unroll
            for (int r = 0; r < MINE; ++r) {
#pragma unroll
              for (int p = 0; p < P; ++p) sums[r][c + p] += x[r].item[i] * y.item[p];
            }
          }
        }
      }
    }
  }

 private:
  template <int N>
  static __device__ Pack<T, N> pack_at(const T* x) {
    return *reinterpret_cast<const Pack<T, N>*>(x);
  }
};

// ---- by tensor cores --------------------------------------------------------------------------

// Each warp computes 16 rows. The left operand stays in registers, and so does a held tile, because
// the accumulators of a 16 × 16 product are distributed over the lanes in the same way as a left
// operand (Dao, "FlashAttention-2", 2023, section 3.3). Operands have at most DEPTH columns;
// missing columns count as 0.
template <class T, int DEPTH_, int COLS_, int WIDTH_>
struct MmaTiles {
  using Number = T;
  using Sum = float;
  static constexpr int DEPTH = DEPTH_, WIDTH = WIDTH_, WARPS = BLOCK / WARP;
  static constexpr int ROWS = 16 * WARPS, COLS = COLS_, LANES = 4;
  static constexpr int MINE = 2, SCORES = COLS / LANES, WIDE = WIDTH / LANES;
  static constexpr int STEP = DEPTH + BANKS_GAP / sizeof(T);
  static constexpr bool WHOLE = WIDTH == DEPTH;

  struct Shared {
    alignas(ACCESS) T panels[(ROWS > 2 * COLS ? ROWS : 2 * COLS) * STEP];
  };
  struct Held {
    Fragment part[COLS / 16];
  };
  struct Left {
    Fragment part[DEPTH / 16];
  };
  struct Right {
    T* panel;
    __device__ Right(Shared& shared, int place) : panel(shared.panels + place * COLS * STEP) {}
    __device__ void fetch(const Matrix<T>& x) { load_tile<COLS, DEPTH, STEP, true>(x, panel); }
  };

  static __device__ int row(int r) {
    return threadIdx.x / WARP * 16 + threadIdx.x % WARP / LANES + 8 * r;
  }
  static __device__ int col(int c) { return c / 2 * 8 + threadIdx.x % LANES * 2 + c % 2; }
  static __device__ int wide(int c) { return col(c); }

  template <class Combine>
  static __device__ float over_row(float value, Combine combine) {
    return over_lanes<LANES>(value, combine);
  }

  // The operand goes through the shared memory of both right operands.
  static __device__ Left keep(const Matrix<T>& a, Shared& shared) {
    Left left;
    load_tile<ROWS, DEPTH, STEP>(a, shared.panels);
    __syncthreads();
#pragma unroll
    for (int d = 0; d < DEPTH; d += 16) {
      left.part[d / 16] = load_left(shared.panels + threadIdx.x / WARP * 16 * STEP + d, STEP);
    }
    __syncthreads();
    return left;
  }

  static __device__ void arrive() {
    wait_for_copies();
    __syncthreads();
  }

  static __device__ void multiply(float (&sums)[MINE][SCORES], const Left& a, const Right& b,
                                  Shared&) {
#pragma unroll
    for (int d = 0; d < DEPTH; d += 16) {
#pragma unroll
      for (int j = 0; j < COLS; j += 16) {
        add(sums, j / LANES, a.part[d / 16], load_right_transposed(b.panel + j * STEP + d, STEP));
      }
    }
  }

  static __device__ Held hold(const float (&sums)[MINE][SCORES], Shared&) {
    Held held;
#pragma unroll
    for (int s = 0; s < COLS / 4; ++s) {  // squares of 8 × 8
      const int c = s / 4 * 4 + s / 2 % 2 * 2;
      held.part[s / 4].square[s % 4] = pack<T>(sums[s % 2][c], sums[s % 2][c + 1]);
    }
    return held;
  }

  // Uses the columns of b from `slice` on.
  static __device__ void add_held(float (&sums)[MINE][WIDE], const Held& held, const Right& b,
                                  int64_t slice, Shared&) {
#pragma unroll
    for (int j = 0; j < COLS; j += 16) {
#pragma unroll
      for (int e = 0; e < WIDTH; e += 16) {
        add(sums, e / LANES, held.part[j / 16], load_right(b.panel + j * STEP + slice + e, STEP));
      }
    }
  }

 private:
  // Adds a · b to a 16 × 16 part of the accumulators; c is its first column in this thread's sums.
  template <int N>
  static __device__ void add(float (&sums)[MINE][N], int c, const Fragment& a, const Fragment& b) {
#pragma unroll
    for (int half = 0; half < 2; ++half, c += 2) {
      multiply_add<T>(sums[0][c], sums[0][c + 1], sums[1][c], sums[1][c + 1], a, b, half);
    }
  }
};

}  // namespace needle
