#!/usr/bin/env bash
# Runs a program of the features cuda,cuda-nvrtc without a GPU, its kernels on the CPU: slow, but their CUDA C++ and all
# of the host's code are those of a GPU.
#
#     benches/gpu/emulate/run.sh PACK PROGRAM [ARGUMENTS...]
#     benches/gpu/emulate/run.sh target/gpu/pack integration parity_on_cuda --nocapture --test-threads 1
#
# PACK is a folder with the program, and libllvm-stub.so where it has no LLVM. It needs gcc, g++ and python3. EMULATE
# (target/gpu/emulate) keeps the compiled kernels. CUDA_PATH is a folder with CUDA's headers, which are not read.
set -euo pipefail
[ $# -gt 1 ] || { sed -n '2,10p' "$0" >&2 && exit 2; }
here=$(realpath "$(dirname "$0")")
pack=$(realpath "$1")
program=$2
shift 2
export EMULATE=${EMULATE:-$here/../../../target/gpu/emulate} EMULATE_SOURCES=$here
mkdir -p "$EMULATE"/{cuda,nvrtc}
EMULATE=$(realpath "$EMULATE")
"$here/../driver/rest.sh" "$here/driver.c" "$here/../driver/device.h" >"$EMULATE/rest.c"
gcc -w -O2 -shared -fPIC "$here/driver.c" "$EMULATE/rest.c" -o "$EMULATE/cuda/libcuda.so" -ldl -lpthread
gcc -w -O2 -shared -fPIC "$here/nvrtc.c" -o "$EMULATE/nvrtc/libnvrtc.so"
preload=()
[ -e "$pack/libllvm-stub.so" ] && preload=("LD_PRELOAD=$pack/libllvm-stub.so")
exec env "LD_LIBRARY_PATH=$EMULATE/nvrtc:$EMULATE/cuda" "CUDA_PATH=${CUDA_PATH:-$EMULATE}" "${preload[@]}" \
  "$pack/$program" "$@"
