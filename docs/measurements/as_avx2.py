"""Copy a virtual environment so that its engines find a CPU with AVX2 and nothing newer.

Usage: `as_avx2.py .venv COPY`.

For measuring AVX2 code without VNNI on a CPU that has more. ONNX Runtime and OpenVINO have no switch for it;
what they, torch and CTranslate2 do have is one question: CPUID. In the copy's libraries each CPUID becomes a
breakpoint, and a small library that is loaded first answers it: as the CPU does, less AVX-512, AVX-VNNI and
what came with them. It gives /proc/cpuinfo in the same way, so reports name AVX2. Caches, clock and memory
stay this CPU's: the figures are those of AVX2 code here, not of an older CPU. The copy's `bin/as-avx2 COMMAND
...` runs a command so. Needs Linux on x86-64, objdump and gcc.

Source: https://www.felixcloutier.com/x86/cpuid
Source: https://docs.pytorch.org/docs/stable/torch_environment_variables.html
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_LIBRARIES = (
    "onnxruntime/capi/onnxruntime_pybind11_state*.so",
    "torch/lib/libtorch_cpu.so",
    "torch/lib/libc10.so",
    "openvino/libs/libopenvino.so*",
    "openvino/libs/libopenvino_intel_cpu_plugin.so",
    "ctranslate2.libs/libctranslate2*.so*",
)
_CPUID, _BREAKPOINT = bytes.fromhex("0fa2"), bytes.fromhex("cc90")  # int3; nop
_ANSWERS = r"""
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

static unsigned without(unsigned of, const unsigned char *bits, int n) {
    while (n--) of &= ~(1u << bits[n]);
    return of;
}

static void answer(int signal, siginfo_t *info, void *context) {
    /* AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL */
    static const unsigned char b7[] = {16, 17, 21, 26, 27, 28, 30, 31};
    /* AVX-512 VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ */
    static const unsigned char c7[] = {1, 6, 11, 12, 14};
    /* AVX-512 4VNNIW, 4FMAPS, VP2INTERSECT, FP16, AMX */
    static const unsigned char d7[] = {2, 3, 8, 22, 23, 24, 25};
    /* AVX-VNNI, AVX-512 BF16, AMX-FP16, AVX-IFMA */
    static const unsigned char a71[] = {4, 5, 21, 23};
    /* AVX-VNNI-INT8, AVX-NE-CONVERT, AMX-COMPLEX, AVX-VNNI-INT16, AVX10 */
    static const unsigned char d71[] = {4, 5, 8, 10, 19};
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    unsigned leaf = r[REG_RAX], sub = r[REG_RCX], a, b, c, d;
    __cpuid_count(leaf, sub, a, b, c, d);
    if (leaf == 7 && sub == 0) {
        b = without(b, b7, sizeof b7);
        c = without(c, c7, sizeof c7);
        d = without(d, d7, sizeof d7);
    }
    if (leaf == 7 && sub == 1) a = without(a, a71, sizeof a71), d = without(d, d71, sizeof d71);
    r[REG_RAX] = a, r[REG_RBX] = b, r[REG_RCX] = c, r[REG_RDX] = d;
}

__attribute__((constructor)) static void begin(void) {
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &action, 0);
}

#define INSTEAD(path) (strcmp(path, "/proc/cpuinfo") ? path : CPUINFO)
int open(const char *path, int flags, int mode) {
    return ((int (*)(const char *, int, int))dlsym(RTLD_NEXT, "open"))(INSTEAD(path), flags, mode);
}
int open64(const char *path, int flags, int mode) {
    return ((int (*)(const char *, int, int))dlsym(RTLD_NEXT, "open64"))(INSTEAD(path), flags, mode);
}
void *fopen(const char *path, const char *mode) {
    return ((void *(*)(const char *, const char *))dlsym(RTLD_NEXT, "fopen"))(INSTEAD(path), mode);
}
void *fopen64(const char *path, const char *mode) {
    return ((void *(*)(const char *, const char *))dlsym(RTLD_NEXT, "fopen64"))(INSTEAD(path), mode);
}
"""
# torch, oneDNN and CTranslate2 have switches too, which hold where the question is asked some other way.
_SWITCHES = "ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 CT2_FORCE_CPU_ISA=AVX2"


def main() -> None:
    """Copy, patch, and print how the copy is run."""
    if len(sys.argv) != 3:
        sys.exit("usage: as_avx2.py VENV COPY")
    venv, copy = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    shutil.copytree(venv, copy, symlinks=True, copy_function=os.link)
    for pattern in _LIBRARIES:
        for library in copy.glob(f"lib/python*/site-packages/{pattern}"):
            print(f"{library.name}: {_patched(library)} places")
    cpuinfo, answers = copy / "lib/cpuinfo", copy / "lib/answers.so"
    said = re.sub(r" (avx512\w*|avx_vnni\w*|amx\w*)", "", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    cpuinfo.write_text(re.sub(r"(model name.*)", r"\1 as AVX2", said), encoding="utf-8")
    options = ["-O2", "-shared", "-fPIC", f'-DCPUINFO="{cpuinfo}"', "-x", "c"]
    command = ["gcc", *options, "-o", answers, "-", "-ldl"]
    subprocess.run(command, input=_ANSWERS, text=True, check=True)
    run = copy / "bin/as-avx2"
    start = f'exec env LD_PRELOAD={answers} EXPORTER_CACHE={copy}/cache {_SWITCHES} "$@"'
    run.write_text(f"#!/bin/sh\n{start}\n", encoding="utf-8")
    run.chmod(0o755)
    print(f"{run} {copy}/bin/python -m exporter export recipes/all.yaml --out {copy}/out")
    print(f"{run} {copy}/bin/python -m exporter verify ARTIFACT  # adds plans and verdicts of AVX2 to it")


def _patched(library: Path) -> int:
    """Replace every CPUID of a library by a breakpoint, in a file of its own, and count them."""
    sections = subprocess.run(["objdump", "-h", library], capture_output=True, text=True, check=True).stdout
    text = re.search(r"^ *\d+ \.text +\w+ +(\w+) +\w+ +(\w+)", sections, re.MULTILINE)
    assert text, library
    shift = int(text[2], 16) - int(text[1], 16)
    code = bytearray(library.read_bytes())
    found = 0
    command = ["objdump", "-d", "-j", ".text", library]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listing:
        assert listing.stdout is not None
        for line in listing.stdout:
            if "cpuid" in line and line.rstrip().endswith("cpuid"):
                at = int(line.partition(":")[0], 16) + shift
                assert code[at : at + 2] == _CPUID, (library, line)
                code[at : at + 2] = _BREAKPOINT
                found += 1
    library.unlink()  # the link; the original keeps its bytes
    library.write_bytes(code)
    return found


if __name__ == "__main__":
    main()
