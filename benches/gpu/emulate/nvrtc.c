/* A libnvrtc.so that compiles kernels for the CPU (kernel.py): their "PTX" is the path of a library for `driver.c`. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { char *source, *code, *log; size_t size; } Program;

int nvrtcVersion(int *major, int *minor) { *major = 13, *minor = 0; return 0; }
const char *nvrtcGetErrorString(int code) { return "an error of g++"; }
int nvrtcCreateProgram(Program **to, const char *source, const char *name, int headers, void *texts, void *names) {
  *to = calloc(1, sizeof(Program));
  (*to)->source = strdup(source);
  return 0;
}
int nvrtcDestroyProgram(Program **program) { return 0; }
int nvrtcCompileProgram(Program *program, int num_options, const char **options) {
  static int number;
  char path[512], command[2048];
  snprintf(path, sizeof path, "%s/%d-%d", getenv("EMULATE"), getpid(), __sync_fetch_and_add(&number, 1));
  snprintf(command, sizeof command, "%s.cu", path);
  FILE *file = fopen(command, "w");
  if (!file) return 6;
  fputs(program->source, file), fclose(file);
  snprintf(command, sizeof command, "env -u LD_PRELOAD -u LD_LIBRARY_PATH python3 '%s/kernel.py' '%s' 1>&2",
           getenv("EMULATE_SOURCES"), path);
  if (system(command)) { program->log = strdup("g++ failed"); return 6; }
  program->size = asprintf(&program->code, "%s.so", path) + 1;
  return 0;
}
int nvrtcGetPTXSize(Program *program, size_t *size) { *size = program->size; return 0; }
int nvrtcGetPTX(Program *program, char *to) { memcpy(to, program->code, program->size); return 0; }
int nvrtcGetProgramLogSize(Program *program, size_t *size) { *size = strlen(program->log ?: "") + 1; return 0; }
int nvrtcGetProgramLog(Program *program, char *to) { strcpy(to, program->log ?: ""); return 0; }
