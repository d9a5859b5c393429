"""A kernel's CUDA C++ as a library for the CPU: PATH.cu becomes PATH.so, with functions that `driver.c` calls.

    python3 kernel.py PATH

EMULATE: the folder that keeps libraries, by the source without its numbers of values.
"""
import hashlib
import os
import re
import shutil
import subprocess
import sys

path = sys.argv[1]
source = open(path + ".cu").read()
head = re.search(r'extern "C" __global__ void __launch_bounds__\(\d+\)\s+(\w+)\((.*?)\)\s*\{', source, re.S)
arguments = []
for number, argument in enumerate(head[2].split(",")):
    kind = re.sub(r"\b(__restrict__|__grid_constant__)\b", "", argument).strip()
    kind = re.sub(r"\w+$", "", kind).strip()
    arguments.append(f"*({re.sub(r'const$', '', kind).strip()}*)arguments[{number}]")
source = re.sub(r"extern __shared__ __align__\(\d+\) char (\w+)\[\];", r"char* \1 = context->shared;", source)
source = re.sub(
    r'asm volatile\("atom[^"]*add\.f32 %0, \[%1\], %2;" : "=f"\((\w+)\) : "l"\((\w+)\), "f"\((\w+)\) \);',
    r"\1 = *(float*)\2; *(float*)\2 += \3;",
    source,
)
header = os.path.join(os.path.dirname(os.path.abspath(__file__)), "kernel.h")
source = f"""#include "{header}"
{source}
extern "C" void begin(Context* given) {{ context = given; }}
extern "C" int has_barriers = {int("__syncthreads" in source)};
extern "C" void run(void** arguments) {{ {head[1]}({", ".join(arguments)}); }}
"""
# CubeCL numbers values anew in each run.
names = {}
same = re.sub(r"v\d+", lambda name: names.setdefault(name[0], f"v{len(names)}"), source.replace(head[1], "kernel"))
kept = os.path.join(os.environ["EMULATE"], hashlib.sha256(same.encode()).hexdigest()[:16] + ".so")
if not os.path.exists(kept):
    with open(path + ".cpp", "w") as file:
        file.write(source)
    options = ["-w", "-std=c++17", "-O1", "-fno-strict-aliasing", "-shared", "-fPIC"]
    subprocess.run(["g++", *options, path + ".cpp", "-o", path + ".new"], check=True)
    os.rename(path + ".new", kept)
    os.remove(path + ".cpp")
os.remove(path + ".cu")
shutil.copy(kept, path + ".so")
