/* A libnvrtc.so in front of NVRTC that keeps machine code by the hash of its source, so that a machine with a GPU compiles
 * nothing: on one that is lent for minutes, compiling costs more than measuring. A first step is not measured with it. The
 * code is that of an H100 or H200 (sm_90a).
 *
 * KERNELS=FOLDER: *.cubin. Where one is missing, NVRTC compiles it, and ptxas (PTXAS, if set) assembles and keeps it. */
#define _GNU_SOURCE
#include <ctype.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct { char *source, *code, *log; size_t size; } Program;

static void *real(const char *name) {
  static void *library;
  if (!library) library = dlopen("libnvrtc.so.13", RTLD_NOW);
  return dlsym(library, name);
}
static int load(const char *path, Program *program) {
  FILE *file = fopen(path, "rb");
  if (!file) return 0;
  fseek(file, 0, SEEK_END);
  program->size = ftell(file);
  rewind(file);
  program->code = calloc(1, program->size + 1);
  int all = fread(program->code, 1, program->size, file) == program->size;
  fclose(file);
  return all;
}
int nvrtcVersion(int *major, int *minor) { *major = 13, *minor = 0; return 0; }
const char *nvrtcGetErrorString(int code) { return "an error of NVRTC"; }
int nvrtcCreateProgram(Program **to, const char *source, const char *name, int headers, void *texts, void *names) {
  *to = calloc(1, sizeof(Program));
  (*to)->source = strdup(source);
  return 0;
}
int nvrtcDestroyProgram(Program **program) { return 0; }
int nvrtcCompileProgram(Program *program, int num_options, const char **options) {
  /* FNV-1a of every line without the numbers of its values, added up: CubeCL numbers values and orders lines anew in each
   * run. */
  uint64_t hash = 0, line = 1469598103934665603ULL;
  for (const char *at = program->source; *at; at++) {
    if (*at == '\n') { hash += line, line = 1469598103934665603ULL; continue; }
    line = (line ^ (unsigned char)*at) * 1099511628211ULL;
    int begins = at == program->source || !(isalnum((unsigned char)at[-1]) || at[-1] == '_');
    if (*at == 'v' && begins) while (isdigit((unsigned char)at[1])) at++;
  }
  for (int i = 0; i < num_options; i++)
    if (!strncmp(options[i], "--gpu-arch", 10))
      for (const char *at = options[i]; *at; at++) hash = (hash ^ (unsigned char)*at) * 1099511628211ULL;
  const char *folder = getenv("KERNELS"), *ptxas = getenv("PTXAS");
  char path[4096], ptx[4200], command[16384];
  snprintf(path, sizeof path, "%s/%016lx.cubin", folder ? folder : "", hash);
  if (folder && load(path, program)) return 0;
  struct timespec from, to;
  clock_gettime(CLOCK_MONOTONIC, &from);
  void *inner;
  int (*create)(void **, const char *, void *, int, void *, void *) = real("nvrtcCreateProgram");
  int (*compile)(void *, int, const char **) = real("nvrtcCompileProgram");
  int (*size_of)(void *, size_t *), (*get)(void *, char *);
  create(&inner, program->source, 0, 0, 0, 0);
  int code = compile(inner, num_options, options);
  size_t size;
  size_of = real(code ? "nvrtcGetProgramLogSize" : "nvrtcGetPTXSize");
  get = real(code ? "nvrtcGetProgramLog" : "nvrtcGetPTX");
  size_of(inner, &size);
  char *text = calloc(1, size + 1);
  get(inner, text);
  if (code) { program->log = text; return code; }
  const char *name = strstr(text, ".entry ");
  clock_gettime(CLOCK_MONOTONIC, &to);
  fprintf(stderr, "nvrtc: %016lx in %.2f s: %.40s\n", hash, to.tv_sec - from.tv_sec + 1e-9 * (to.tv_nsec - from.tv_nsec),
          name ? name + 7 : "");
  program->code = text, program->size = size;
  if (!folder || !ptxas) return 0;
  snprintf(ptx, sizeof ptx, "%s.%d", path, getpid());
  FILE *file = fopen(ptx, "w");
  if (!file) return 0;
  fputs(text, file), fclose(file);
  snprintf(command, sizeof command, "env -u LD_PRELOAD '%s' -arch=sm_90a -lineinfo '%s' -o '%s.out' && mv '%s.out' '%s'; rm -f '%s'",
           ptxas, ptx, ptx, ptx, path, ptx);
  if (!system(command)) load(path, program);
  return 0;
}
int nvrtcGetPTXSize(Program *program, size_t *size) { *size = program->size; return 0; }
int nvrtcGetPTX(Program *program, char *to) { memcpy(to, program->code, program->size); return 0; }
int nvrtcGetProgramLogSize(Program *program, size_t *size) { *size = strlen(program->log ?: "") + 1; return 0; }
int nvrtcGetProgramLog(Program *program, char *to) { strcpy(to, program->log ?: ""); return 0; }
