/* A CUDA driver that computes nothing: a program with the feature `cuda` runs all of its host's code against it. It tells
 * the host's time of a step, the launches, and, with NVRTC, how long kernels take to compile. Results are zeros.
 *
 * `offline.sh` adds the functions of the driver that are not here; these return success.
 * NULL_DRIVER_LAUNCHES=FILE: a line per launch: kernel, cubes, units, bytes of shared memory. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long place;
enum { MOST = 8192 };
static place next_place = 0x7f0000000000ULL;
static uintptr_t next_handle = 1, next_function = 1;
static unsigned long launches, modules;
static char *names[MOST];
static FILE *log_file;

static int handle(void **to) {
  *to = (void *)(__sync_fetch_and_add(&next_handle, 1) * 16);
  return 0;
}
static int allocate(place *to, size_t bytes) {
  *to = __sync_fetch_and_add(&next_place, (bytes + 511) / 512 * 512 + 512);
  return 0;
}

int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int bytes, int device) { strncpy(name, "no device, an H200's limits", bytes); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 140ULL << 30; return 0; }
int cuDeviceGetPCIBusId(char *id, int bytes, int device) { strncpy(id, "0000:00:00.0", bytes); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  switch (attribute) { /* of an H200 */
  case 1: case 2: case 3: *value = 1024; break; /* units of a cube */
  case 4: *value = 64; break;
  case 5: *value = 2147483647; break; /* cubes */
  case 6: case 7: *value = 65535; break;
  case 8: *value = 49152; break; /* shared memory of a cube */
  case 10: *value = 32; break; /* units of a warp */
  case 12: *value = 65536; break; /* registers */
  case 16: *value = 132; break; /* multiprocessors */
  case 39: *value = 2048; break; /* units of a multiprocessor */
  case 75: *value = 9; break; /* compute capability */
  case 76: *value = 0; break;
  case 81: *value = 233472; break;
  case 97: *value = 232448; break; /* shared memory of a cube on request */
  default: *value = 1;
  }
  return 0;
}
int cuMemGetInfo_v2(size_t *free, size_t *total) { *free = 139ULL << 30; *total = 140ULL << 30; return 0; }
int cuMemAlloc_v2(place *to, size_t bytes) { return allocate(to, bytes); }
int cuMemAllocAsync(place *to, size_t bytes, void *stream) { return allocate(to, bytes); }
int cuMemAllocHost_v2(void **to, size_t bytes) { *to = malloc(bytes); return 0; }
int cuMemHostAlloc(void **to, size_t bytes, unsigned flags) { *to = malloc(bytes); return 0; }
int cuMemFreeHost(void *from) { free(from); return 0; }
int cuDevicePrimaryCtxRetain(void **to, int device) { return handle(to); }
int cuCtxGetCurrent(void **to) { *to = (void *)8; return 0; }
int cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -5; return 0; }
int cuStreamCreate(void **to, unsigned flags) { return handle(to); }
int cuStreamCreateWithPriority(void **to, unsigned flags, int priority) { return handle(to); }
int cuEventCreate(void **to, unsigned flags) { return handle(to); }
int cuEventElapsedTime(float *ms, void *from, void *to) { *ms = 0.001f; return 0; }
int cuEventElapsedTime_v2(float *ms, void *from, void *to) { *ms = 0.001f; return 0; }
int cuMemcpyDtoHAsync_v2(void *to, place from, size_t bytes, void *stream) { memset(to, 0, bytes); return 0; }
int cuMemcpyDtoH_v2(void *to, place from, size_t bytes) { memset(to, 0, bytes); return 0; }
struct copy {
  size_t from_x, from_y; int from_type, pad_1; const void *from_host; place from_device; void *from_array; size_t from_pitch;
  size_t to_x, to_y; int to_type, pad_2; void *to_host; place to_device; void *to_array; size_t to_pitch;
  size_t width, height;
};
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
