/* Times every kernel on an NVIDIA GPU with events: a libcuda.so in front of the driver's own. Launches run one after the
 * other as before; an event before and one behind each add some microseconds.
 *
 * TIMES=FILE: a line per launch: kernel, cubes, units, milliseconds. TIMES_SKIP, TIMES_COUNT: the launches that are timed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cuEventCreate(void **, unsigned);
int cuEventRecord(void *, void *);
int cuEventSynchronize(void *);
int cuEventElapsedTime(float *, void *, void *);

enum { MOST = 8192 };
static char *names[MOST];
static void *functions[MOST];
static int num_functions;
static struct launch { const char *name; unsigned cubes[3], units; void *from, *to; } *timed;
static long seen, num_timed, skip, count;
static int told;

static void *real(const char *name) {
  static void *driver;
  if (!driver) driver = dlopen("libcuda.so.1", RTLD_NOW);
  return dlsym(driver, name);
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
  static int (*get)(void **, void *, const char *);
  if (!get) get = real("cuModuleGetFunction");
  int code = get(function, module, name);
  if (!code && num_functions < MOST) functions[num_functions] = *function, names[num_functions++] = strdup(name);
  return code;
}
static void tell(void) {
  told = 1;
  FILE *to = fopen(getenv("TIMES"), "w");
  for (long i = 0; to && i < num_timed; i++) {
    float ms = 0;
    cuEventSynchronize(timed[i].to);
    cuEventElapsedTime(&ms, timed[i].from, timed[i].to);
    fprintf(to, "%s %u %u %u %u %.4f\n", timed[i].name, timed[i].cubes[0], timed[i].cubes[1], timed[i].cubes[2],
            timed[i].units, ms);
  }
  if (to) fclose(to);
}
__attribute__((destructor)) static void tell_the_end(void) {
  if (getenv("TIMES") && !told)
    fprintf(stderr, "times: %ld launches were seen, fewer than TIMES_SKIP + TIMES_COUNT: nothing written\n", seen);
}
int cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned units_x, unsigned units_y, unsigned units_z,
                   unsigned shared, void *stream, void **arguments, void **extra) {
  static int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);
  if (!launch) {
    launch = real("cuLaunchKernel");
    skip = atol(getenv("TIMES_SKIP") ?: "0");
    count = getenv("TIMES") ? atol(getenv("TIMES_COUNT") ?: "1000") : 0;
    timed = calloc(count + 1, sizeof *timed);
  }
  if (seen++ < skip || num_timed == count)
    return launch(function, x, y, z, units_x, units_y, units_z, shared, stream, arguments, extra);
  struct launch *this = &timed[num_timed++];
  this->name = "?";
  for (int i = 0; i < num_functions; i++)
    if (functions[i] == function) this->name = names[i];
  this->cubes[0] = x, this->cubes[1] = y, this->cubes[2] = z, this->units = units_x * units_y * units_z;
  cuEventCreate(&this->from, 0), cuEventCreate(&this->to, 0);
  cuEventRecord(this->from, stream);
  int code = launch(function, x, y, z, units_x, units_y, units_z, shared, stream, arguments, extra);
  cuEventRecord(this->to, stream);
  if (num_timed == count) tell();
  return code;
}
