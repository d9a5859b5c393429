/* A device that is not there, with the limits of an H200: for the drivers null.c and ../emulate/driver.c, which define
 * `allocate`. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long place;
static uintptr_t next_handle = 1;
static unsigned long launches, modules;

static int handle(void **to) {
  *to = (void *)(__sync_fetch_and_add(&next_handle, 1) * 16);
  return 0;
}
static int allocate(place *to, size_t bytes);

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
struct copy {
  size_t from_x, from_y; int from_type, pad_1; const void *from_host; place from_device; void *from_array; size_t from_pitch;
  size_t to_x, to_y; int to_type, pad_2; void *to_host; place to_device; void *to_array; size_t to_pitch;
  size_t width, height;
};
