#!/usr/bin/env bash
# A GPU program without a GPU: the host's time of a step, the launches by kernel, the time that NVRTC takes, and machine
# code of all kernels, to be carried to a machine with a GPU.
#
#     benches/gpu/offline.sh PACK PROGRAM [ARGUMENTS...]
#     benches/gpu/offline.sh target/release/examples time_step --device cuda --samples 5 --steps-per-wait 20
#
# PACK is a folder with programs of the features cuda,cuda-nvrtc. NVRTC=FOLDER has CUDA 13's libnvrtc.so.13 (of the Python
# package nvidia-cuda-nvrtc, say); with PTXAS=PROGRAM (of nvidia-cuda-nvcc), compiled kernels are kept in KERNELS
# (target/gpu/kernels). The tools of target/gpu/tools go to the machine with the GPU:
#     LD_LIBRARY_PATH=tools/nvrtc:tools/times:... KERNELS=kernels TIMES=times.txt TIMES_SKIP=38000 TIMES_COUNT=985 time_step ...
#     python3 benches/gpu/times.py times.txt
set -euo pipefail
[ $# -gt 1 ] || { sed -n '2,12p' "$0" >&2 && exit 2; }
here=$(realpath "$(dirname "$0")")
pack=$(realpath "$1")
program=$2
shift 2
tools=$here/../../target/gpu/tools
mkdir -p "$tools"/{null,nvrtc,times,link}
tools=$(realpath "$tools")
export KERNELS=${KERNELS:-$here/../../target/gpu/kernels}
mkdir -p "$KERNELS"
if [ ! "$tools/times/libcuda.so" -nt "$here/offline.sh" ] || [ -n "$(find "$here/driver" -newer "$tools/times/libcuda.so")" ]; then
  "$here/driver/rest.sh" "$here/driver/null.c" "$here/driver/device.h" >"$tools/rest.c"
  gcc -w -O2 -shared -fPIC "$here/driver/null.c" "$tools/rest.c" -o "$tools/null/libcuda.so"
  gcc -w -O2 -shared -fPIC -Wl,-soname,libcuda.so.1 "$here/driver/null.c" "$tools/rest.c" -o "$tools/link/libcuda.so.1"
  gcc -w -O2 -shared -fPIC "$here/driver/nvrtc.c" -o "$tools/nvrtc/libnvrtc.so" -ldl
  gcc -w -O2 -shared -fPIC "$here/driver/times.c" -o "$tools/times/libcuda.so" \
    -Wl,--no-as-needed "-L$tools/link" -l:libcuda.so.1 -ldl
fi
preload=()
[ -e "$pack/libllvm-stub.so" ] && preload=("LD_PRELOAD=$pack/libllvm-stub.so")
launches=$(mktemp)
trap 'rm -f "$launches"' EXIT
env "LD_LIBRARY_PATH=$tools/nvrtc:$tools/null:${NVRTC:?the folder of libnvrtc.so.13}" "CUDA_PATH=${CUDA_PATH:-$NVRTC/..}" \
  "NULL_DRIVER_LAUNCHES=$launches" "${preload[@]}" "$pack/$program" "$@"
python3 "$here/times.py" "$launches"
