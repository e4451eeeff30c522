"""Builds the two compiled products with ninja; everything else is declared in pyproject.toml.

    emokernel/libemokernel.so   the operations, through torch's stable ABI: no Python symbols, and
                                one build serves every torch from TORCH_TARGET on
    emokernel/_build_info*.so   a pybind11 module that tells how the build was made

No CUDA toolkit and no GPU are needed. The row kernels are compiled once per instruction-set level,
with flags for that file alone; which one runs is decided at run time.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"
TORCH_TARGET = (2, 11)
# -ffp-contract=off: a fused multiply-add would round once where the specification rounds twice.
COMMON_FLAGS = [
    "-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno",
    "-Wall", "-Wextra",
]  # fmt: skip
AVX2_FLAGS = ["-mavx2", "-mfma", "-mf16c"]
# GCC 12 warns about its own AVX-512 headers (its bug 105593).
AVX512_FLAGS = [
    *AVX2_FLAGS, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-Wno-maybe-uninitialized",
]  # fmt: skip
# By level: the header of csrc/kernels that it is compiled with, and the flags of that one file.
ISA_LEVELS = {
    "portable": ("vec_portable.h", []),
    "avx2": ("vec_avx2.h", AVX2_FLAGS),
    "avx512": ("vec_avx512.h", AVX512_FLAGS),
    "avx512bf16": ("vec_avx512.h", [*AVX512_FLAGS, "-mavx512bf16"]),
}


def isa_levels() -> list[str]:
    """The levels that make sense for the machine this is built for."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return list(ISA_LEVELS) if x86 else ["portable"]


def package_version() -> str:
    text = (ROOT / "emokernel" / "__init__.py").read_text()
    return re.search(r'__version__ = "(.+)"', text).group(1)


def compiler() -> list[str]:
    command = shlex.split(os.environ.get("CXX") or "c++")
    if shutil.which(command[0]) is None:
        raise SystemExit(f"emokernel needs a C++17 compiler: {command[0]!r} is not on PATH (CXX)")
    return command


def compiler_version(command: list[str]) -> str:
    return subprocess.run(
        [*command, "--version"], check=True, capture_output=True, text=True
    ).stdout.splitlines()[0]


def torch_target_macro() -> str:
    major, minor = TORCH_TARGET
    return f"-DTORCH_TARGET_VERSION=0x{major:02x}{minor:02x}000000000000"


class NinjaFile:
    """A build.ninja in the making."""

    def __init__(self, cxx: list[str], flags: list[str]) -> None:
        self.compiler = cxx
        self.lines = [
            f"cxx = {shlex.join(cxx)}",
            f"flags = {shlex.join(flags)}",
            "rule compile",
            "  command = $cxx $flags $extra -MMD -MF $out.d -c $in -o $out",
            "  depfile = $out.d",
            "  deps = gcc",
            "  description = compile $out",
            "rule link",
            "  command = $cxx -shared $in $extra -o $out",
            "  description = link $out",
        ]

    def _build(self, rule: str, out: str, inputs: list[str], extra: list[str]) -> None:
        def escape(path: str) -> str:
            return path.replace("$", "$$").replace(" ", "$ ").replace(":", "$:")

        self.lines += [
            f"build {escape(out)}: {rule} {' '.join(map(escape, inputs))}",
            f"  extra = {shlex.join(extra)}".replace("$", "$$"),
        ]

    def compile(self, source: Path, extra: list[str], tag: str = "") -> str:
        """Compiles a source of csrc; returns the name of the object."""
        name = "_".join(filter(None, (tag, source.parent.name, source.stem))) + ".o"
        self._build("compile", name, [str(source)], extra)
        return name

    def link(self, out: Path, objects: list[str], extra: list[str]) -> None:
        self._build("link", str(out), objects, extra)

    def run(self, folder: Path, jobs: int, verbose: bool) -> None:
        path = folder / "build.ninja"
        text = "\n".join(self.lines) + "\n"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        ninja = shutil.which("ninja") or str(Path(sysconfig.get_path("scripts")) / "ninja")
        command = [ninja, "-C", str(folder), f"-j{jobs}", *(["-v"] if verbose else [])]
        subprocess.run(command, check=True)


class NinjaBuild(build_ext):
    """One ninja run for all extensions, in place or into the build folder."""

    def get_ext_filename(self, name: str) -> str:
        """The library has no Python version in its name; setuptools asks with and without path."""
        if name.rpartition(".")[2] == "libemokernel":
            return os.path.join(*name.split(".")) + ".so"
        return super().get_ext_filename(name)

    def build_extensions(self) -> None:
        try:
            import pybind11
            import torch
            from torch.utils.cpp_extension import include_paths, library_paths
        except ImportError as missing:
            raise SystemExit(
                f"emokernel's compiled part needs {missing.name} at build time: install it, or drop"
                " --no-build-isolation"
            ) from None
        # Error messages of torch's macros name source files: without the folder of this build.
        self.file = NinjaFile(compiler(), [*COMMON_FLAGS, f"-ffile-prefix-map={ROOT}=emokernel"])
        # The selector of the level is in both products: the module tells what the library will do.
        self.x86_flag = ["-DEMOKERNEL_X86"] if len(isa_levels()) > 1 else []
        self.isa_object = self.file.compile(CSRC / "launchers/cpu_isa.cpp", self.x86_flag)
        self.add_library(include_paths(), library_paths())
        self.add_build_info(pybind11.get_include(), torch.__version__)
        folder = Path(self.build_temp).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        jobs = self.parallel or int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)
        self.file.run(folder, jobs, verbose=self.verbose > 1)

    def output(self, name: str) -> Path:
        path = Path(self.get_ext_fullpath(name)).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def add_library(self, torch_includes: list[str], torch_libraries: list[str]) -> None:
        compile_source = self.file.compile
        objects = [
            self.isa_object,
            compile_source(CSRC / "launchers/cpu_rows.cpp", self.x86_flag),
        ]
        for level in isa_levels():
            header, flags = ISA_LEVELS[level]
            defines = [f"-DEMOKERNEL_ISA={level}", f'-DEMOKERNEL_VEC="{header}"']
            objects.append(compile_source(CSRC / "kernels/rows.cpp", [*flags, *defines], level))
        binding = [torch_target_macro()]
        binding += [flag for path in torch_includes for flag in ("-isystem", path)]
        for name in ("tensor", "checks", "ops"):
            objects.append(compile_source(CSRC / f"binding/{name}.cpp", binding))
        # No run path: the process has loaded its own libtorch_cpu, whatever its version.
        found = [f"-L{path}" for path in torch_libraries]
        self.file.link(
            self.output("emokernel.libemokernel"), objects, [*found, "-ltorch_cpu", "-Wl,-z,defs"]
        )

    def add_build_info(self, pybind11_include: str, torch_version: str) -> None:
        facts = {
            "VERSION": package_version(),
            "COMPILER": compiler_version(self.file.compiler),
            "FLAGS": " ".join(COMMON_FLAGS),
            "TORCH_BUILT": torch_version,
            "TORCH_TARGET": ".".join(map(str, TORCH_TARGET)),
        }
        flags = [f'-DEMOKERNEL_{key}="{value}"' for key, value in facts.items()]
        for path in (pybind11_include, sysconfig.get_path("include")):
            flags += ["-isystem", path]
        info = self.file.compile(CSRC / "binding/build_info.cpp", flags)
        self.file.link(self.output("emokernel._build_info"), [info, self.isa_object], [])


if sys.platform != "linux":
    raise SystemExit("emokernel's compiled part is built on Linux only so far")

setup(
    ext_modules=[
        Extension("emokernel.libemokernel", sources=[]),
        Extension("emokernel._build_info", sources=[]),
    ],
    cmdclass={"build_ext": NinjaBuild},
)
