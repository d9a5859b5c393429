/* A CUDA driver that runs kernels on the CPU, one thread after the other up to each barrier: memory of the device is
 * memory of the host. Slow, and right: it shows whether the kernels that CUDA gets compute what they should, without a
 * GPU. Shared memory is full of NaN at first, and the order of threads is reversed in every other launch.
 *
 * A "module" is the path of a library that `kernel.py` made. `run.sh` adds the functions that are not here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <ucontext.h>

#include "../driver/device.h"

static int allocate(place *to, size_t bytes) {
  void *memory;
  if (posix_memalign(&memory, 512, bytes ? bytes : 512)) return 2;
  memset(memory, 0, bytes);
  *to = (place)memory;
  return 0;
}

int cuMemcpyDtoHAsync_v2(void *to, place from, size_t bytes, void *stream) { memcpy(to, (void*)from, bytes); return 0; }
int cuMemcpyDtoH_v2(void *to, place from, size_t bytes) { memcpy(to, (void*)from, bytes); return 0; }
int cuMemcpyHtoDAsync_v2(place to, const void *from, size_t bytes, void *stream) { memcpy((void*)to, from, bytes); return 0; }
int cuMemcpyHtoD_v2(place to, const void *from, size_t bytes) { memcpy((void*)to, from, bytes); return 0; }
int cuMemcpyDtoDAsync_v2(place to, place from, size_t bytes, void *stream) { memmove((void*)to, (void*)from, bytes); return 0; }
int cuMemcpyDtoD_v2(place to, place from, size_t bytes) { memmove((void*)to, (void*)from, bytes); return 0; }
int cuMemcpyAsync(place to, place from, size_t bytes, void *stream) { memmove((void*)to, (void*)from, bytes); return 0; }
int cuMemcpyPeerAsync(place to, void* c, place from, void *d, size_t bytes, void *stream) { memmove((void*)to, (void*)from, bytes); return 0; }
int cuMemsetD8Async(place to, unsigned char v, size_t n, void *stream) { memset((void*)to, v, n); return 0; }
int cuMemsetD8_v2(place to, unsigned char v, size_t n) { memset((void*)to, v, n); return 0; }
int cuMemsetD32Async(place to, unsigned v, size_t n, void *stream) { for (size_t i=0;i<n;i++) ((unsigned*)to)[i]=v; return 0; }
int cuMemFree_v2(place p) { free((void*)p); return 0; }
int cuMemFreeAsync(place p, void *stream) { free((void*)p); return 0; }

int cuMemcpy2DAsync_v2(struct copy *c, void *stream) {
  for (size_t row = 0; row < c->height; row++) {
    const char *from = (c->from_type == 1 ? (const char*)c->from_host : (const char*)c->from_device) + (c->from_y + row) * c->from_pitch + c->from_x;
    char *to = (c->to_type == 1 ? (char*)c->to_host : (char*)c->to_device) + (c->to_y + row) * c->to_pitch + c->to_x;
    memmove(to, from, c->width);
  }
  return 0;
}

/* As in kernel.h. */
struct dim { unsigned x, y, z; };
struct context { struct dim thread, block, dims, grid; char *shared; void (*sync)(void); };
struct kernel { void (*run)(void **); int has_barriers; };
enum { MOST_THREADS = 1024, STACK = 128 << 10, MOST_SHARED = 256 << 10 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct context context;
static struct kernel *running;
static void **running_arguments;
static ucontext_t of_cube, threads[MOST_THREADS];
static char *stacks[MOST_THREADS];
static int ended[MOST_THREADS], current;

static void thread(void) {
  running->run(running_arguments);
  ended[current] = 1;
}
static void wait_at_barrier(void) { swapcontext(&threads[current], &of_cube); }

int cuModuleLoadData(void **to, const void *image) {
  void *library = dlopen((const char *)image, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    fprintf(stderr, "emulated: %s\n", dlerror());
    return 200;
  }
  context.sync = wait_at_barrier;
  ((void (*)(struct context *))dlsym(library, "begin"))(&context);
  struct kernel *kernel = calloc(1, sizeof *kernel);
  kernel->run = (void (*)(void **))dlsym(library, "run");
  kernel->has_barriers = *(int *)dlsym(library, "has_barriers");
  __sync_fetch_and_add(&modules, 1);
  *to = kernel;
  return 0;
}
int cuModuleGetFunction(void **to, void *module, const char *name) { *to = module; return 0; }

static void choose(unsigned number) {
  current = number;
  struct dim of = context.dims;
  context.thread = (struct dim){number % of.x, number / of.x % of.y, number / of.x / of.y};
}
/* All threads of a cube, each up to its next barrier in turn. */
static void run_cube(void) {
  int count = context.dims.x * context.dims.y * context.dims.z;
  for (int number = 0; number < count; number++) {
    ucontext_t *fiber = &threads[number];
    if (!stacks[number]) stacks[number] = malloc(STACK);
    getcontext(fiber);
    fiber->uc_stack.ss_sp = stacks[number], fiber->uc_stack.ss_size = STACK, fiber->uc_link = &of_cube;
    makecontext(fiber, thread, 0);
    ended[number] = 0;
  }
  for (int left = count; left;) {
    left = 0;
    for (int turn = 0; turn < count; turn++) {
      int number = launches & 1 ? turn : count - 1 - turn;
      if (ended[number]) continue;
      choose(number);
      swapcontext(&of_cube, &threads[number]);
      left += !ended[number];
    }
  }
}
int cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned units_x, unsigned units_y, unsigned units_z,
                   unsigned shared, void *stream, void **arguments, void **extra) {
  pthread_mutex_lock(&lock);
  launches++;
  running = function, running_arguments = arguments;
  if (!context.shared) context.shared = aligned_alloc(128, MOST_SHARED);
  context.dims = (struct dim){units_x, units_y, units_z};
  context.grid = (struct dim){x, y, z};
  for (unsigned number = 0; number < x * y * z; number++) {
    context.block = (struct dim){number % x, number / x % y, number / x / y};
    memset(context.shared, 0xff, shared ? shared : 48 << 10); /* NaN: nothing is zero by chance. */
    if (running->has_barriers) {
      run_cube();
    } else {
      for (unsigned of = 0; of < units_x * units_y * units_z; of++) choose(of), running->run(arguments);
    }
  }
  pthread_mutex_unlock(&lock);
  return 0;
}
__attribute__((destructor)) static void tell(void) {
  fprintf(stderr, "emulated: %lu launches, %lu kernels\n", launches, modules);
}
