/* The part of CUDA C++ that kernels of CubeCL use, for a thread at a time on a CPU. */
typedef __SIZE_TYPE__ size_t;
struct Dim { unsigned x, y, z; };
struct Context { Dim thread, block, dims, grid; char *shared; void (*sync)(); };
static Context *context;
#define threadIdx (context->thread)
#define blockIdx (context->block)
#define blockDim (context->dims)
#define gridDim (context->grid)
#define __global__
#define __device__
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)
#define __syncthreads() context->sync()
static inline unsigned __umulhi(unsigned a, unsigned b) { return ((unsigned long long)a * b) >> 32; }
static inline bool isnan(float x) { return __builtin_isnan(x); }
static inline bool isinf(float x) { return __builtin_isinf(x); }
#define rsqrtf(x) (1.0f / __builtin_sqrtf(x))
#define sqrtf __builtin_sqrtf
#define expf __builtin_expf
#define logf __builtin_logf
#define sqrt __builtin_sqrtf
#define exp __builtin_expf
#define log __builtin_logf
#define cos __builtin_cosf
#define sin __builtin_sinf
#define powf __builtin_powf
#define fmaf __builtin_fmaf
#define fma __builtin_fmaf
#define fmaxf __builtin_fmaxf
#define fminf __builtin_fminf
#define ceilf __builtin_ceilf
#define floorf __builtin_floorf
#define fabsf __builtin_fabsf
#define floor __builtin_floorf
#define fabs __builtin_fabsf
#define abs(x) ((x) < 0 ? -(x) : (x))
template <class T> static inline T min(T a, T b) { return b < a ? b : a; }
template <class T> static inline T max(T a, T b) { return a < b ? b : a; }
#define __restrict__ __restrict
