"""Copy a virtual environment so that its engines find a CPU with AVX2 and nothing newer: `as_avx2.py .venv COPY`.

For measuring AVX2 code on a CPU that has AVX-512. ONNX Runtime and OpenVINO have no switch for it; what they, and torch, do have
is one question: XGETBV, by which a program asks which registers the system saves. In the copy's libraries each XGETBV becomes
`mov al, 7; nop`: x87, SSE and AVX, no AVX-512. Caches, clock and memory stay this CPU's, so the figures are those of AVX2 code
here, not of an older CPU. Needs Linux on x86-64, and objdump.

Source: https://www.felixcloutier.com/x86/xgetbv (XCR0: bits 5 to 7 are AVX-512's)
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
    "openvino/libs/libopenvino.so*",
    "openvino/libs/libopenvino_intel_cpu_plugin.so",
)
_XGETBV, _NO_AVX512 = bytes.fromhex("0f01d0"), bytes.fromhex("b00790")
# torch, oneDNN and CTranslate2 have switches, which hold where the question is asked some other way.
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
    print(f"EXPORTER_CACHE={copy}/cache {_SWITCHES} {copy}/bin/python -m exporter.cli export recipes/all.yaml --out {copy}/out")


def _patched(library: Path) -> int:
    """Replace every XGETBV of a library by its answer without AVX-512, in a file of its own, and count them."""
    sections = subprocess.run(["objdump", "-h", library], capture_output=True, text=True, check=True).stdout
    text = re.search(r"^ *\d+ \.text +\w+ +(\w+) +\w+ +(\w+)", sections, re.MULTILINE)
    assert text, library
    shift = int(text[2], 16) - int(text[1], 16)
    code = bytearray(library.read_bytes())
    found = 0
    with subprocess.Popen(["objdump", "-d", "-j", ".text", library], stdout=subprocess.PIPE, text=True) as listing:
        assert listing.stdout is not None
        for line in listing.stdout:
            if "xgetbv" in line:
                at = int(line.partition(":")[0], 16) + shift
                assert code[at : at + 3] == _XGETBV, (library, line)
                code[at : at + 3] = _NO_AVX512
                found += 1
    library.unlink()  # the link; the original keeps its bytes
    library.write_bytes(code)
    return found


if __name__ == "__main__":
    main()
