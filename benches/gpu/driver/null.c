/* A CUDA driver that computes nothing: a program with the feature `cuda` runs all of its host's code against it. It tells
 * the host's time of a step, the launches, and, with NVRTC, how long kernels take to compile. Results are zeros.
 *
 * `offline.sh` adds the functions of the driver that are not here; these return success.
 * NULL_DRIVER_LAUNCHES=FILE: a line per launch: kernel, cubes, units, bytes of shared memory. */
#include "device.h"

enum { MOST = 8192 };
static place next_place = 0x7f0000000000ULL;
static uintptr_t next_function = 1;
static char *names[MOST];
static FILE *log_file;

static int allocate(place *to, size_t bytes) {
  *to = __sync_fetch_and_add(&next_place, (bytes + 511) / 512 * 512 + 512);
  return 0;
}

int cuMemcpyDtoHAsync_v2(void *to, place from, size_t bytes, void *stream) { memset(to, 0, bytes); return 0; }
int cuMemcpyDtoH_v2(void *to, place from, size_t bytes) { memset(to, 0, bytes); return 0; }
int cuMemcpy2DAsync_v2(struct copy *copy, void *stream) {
  for (size_t row = 0; copy->to_type == 1 && row < copy->height; row++)
    memset((char *)copy->to_host + (copy->to_y + row) * copy->to_pitch + copy->to_x, 0, copy->width);
  return 0;
}
int cuModuleLoadData(void **to, const void *image) { __sync_fetch_and_add(&modules, 1); return handle(to); }
int cuModuleGetFunction(void **to, void *module, const char *name) {
  uintptr_t number = __sync_fetch_and_add(&next_function, 1);
  if (number < MOST) names[number] = strdup(name);
  *to = (void *)(number * 16);
  return 0;
}
int cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned units_x, unsigned units_y, unsigned units_z,
                   unsigned shared, void *stream, void **arguments, void **extra) {
  __sync_fetch_and_add(&launches, 1);
  const char *file = getenv("NULL_DRIVER_LAUNCHES");
  if (!log_file && file) log_file = fopen(file, "w");
  uintptr_t number = (uintptr_t)function / 16;
  if (log_file)
    fprintf(log_file, "%s %u %u %u %u %u\n", number < MOST && names[number] ? names[number] : "?", x, y, z,
            units_x * units_y * units_z, shared);
  return 0;
}
__attribute__((destructor)) static void tell(void) {
  if (log_file) fflush(log_file);
  fprintf(stderr, "null driver: %lu launches, %lu kernels\n", launches, modules);
}
