"""Builds the compiled products with ninja; everything else is declared in pyproject.toml.

    emokernel/libemokernel.so        the operations on the CPU, through torch's stable ABI: no
                                     Python symbols, and one build serves every torch from
                                     TORCH_TARGET on
    emokernel/libemokernel_cuda.so   the same for CUDA, where EMOKERNEL_CUDA says so:
                                     0 never; 1 always (an error without nvcc); auto, the default,
                                     where nvcc is found and torch is a CUDA build
    emokernel/_build_info*.so        a pybind11 module that tells how the build was made
    emokernel/_direct*.so            Python's short way to an operation, for the torch and Python
                                     of this build; others go through torch.ops

No GPU is needed. The CPU kernels are compiled once per instruction-set level, with flags for that
file alone; which one runs is decided at run time. EMOKERNEL_CUDA_ARCHS="90" builds for fewer GPUs.
On other systems than Linux nothing is built: all but the kernels is plain Python.
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
from collections.abc import Sequence
from dataclasses import dataclass
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
}


# -fmad=false: as -ffp-contract=off above.
NVCC_FLAGS = ["-std=c++17", "-O3", "-fmad=false", "-Xcompiler=-fPIC,-fvisibility=hidden"]
CUDA_ARCHITECTURES = (80, 90, 100)
CUDA_LIBRARY = "emokernel.libemokernel_cuda"
STREAM_TYPES = ("float", "Bf16", "Fp16")


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


def compiler_version(command: list[str], line: int = 0) -> str:
    return subprocess.run(
        [*command, "--version"], check=True, capture_output=True, text=True
    ).stdout.splitlines()[line]


def torch_target_macro() -> str:
    major, minor = TORCH_TARGET
    return f"-DTORCH_TARGET_VERSION=0x{major:02x}{minor:02x}000000000000"


@dataclass(frozen=True)
class Toolkit:
    """The CUDA toolkit to build with, and the architectures to build for."""

    home: Path
    version: str
    architectures: tuple[int, ...]

    @property
    def nvcc(self) -> Path:
        return self.home / "bin" / "nvcc"

    def code_flags(self) -> list[str]:
        """Machine code for every architecture, and PTX of the newest for those to come."""
        codes = [f"arch=compute_{arch},code=sm_{arch}" for arch in self.architectures]
        newest = max(self.architectures)
        codes.append(f"arch=compute_{newest},code=compute_{newest}")
        return [flag for code in codes for flag in ("-gencode", code)]


def toolkit_home() -> Path | None:
    """Where CUDA_HOME or CUDA_PATH says, else around the nvcc on PATH, else the usual place."""
    named = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    found = shutil.which("nvcc")
    places = [Path(named)] if named else []
    places += [Path(found).resolve().parent.parent] if found and not named else []
    places += [] if named else [Path("/usr/local/cuda")]
    # A wrapper script on PATH may lie outside of its toolkit.
    needs = ("bin/nvcc", "include/cuda_runtime.h")
    fit = (place for place in places if all((place / need).exists() for need in needs))
    return next(fit, None)


def find_toolkit(torch_cuda: str | None) -> Toolkit | None:
    """The toolkit that EMOKERNEL_CUDA asks for, or None; SystemExit where it cannot be had."""
    wish = os.environ.get("EMOKERNEL_CUDA") or "auto"
    if wish not in ("0", "1", "auto"):
        raise SystemExit(f"EMOKERNEL_CUDA={wish}: it has to be 0, 1 or auto")
    home = toolkit_home()
    if wish == "0" or (wish == "auto" and (home is None or torch_cuda is None)):
        return None
    if home is None:
        raise SystemExit("EMOKERNEL_CUDA=1: no nvcc; install the CUDA toolkit and set CUDA_HOME")
    known = subprocess.run(
        [home / "bin/nvcc", "--list-gpu-code"], check=True, capture_output=True, text=True
    ).stdout.split()
    asked = os.environ.get("EMOKERNEL_CUDA_ARCHS")
    architectures = [int(arch) for arch in asked.split()] if asked else list(CUDA_ARCHITECTURES)
    usable = tuple(sorted(arch for arch in architectures if f"sm_{arch}" in known))
    if not usable:
        raise SystemExit(f"nvcc in {home} knows none of the architectures {architectures}")
    return Toolkit(home, compiler_version([str(home / "bin/nvcc")], line=-1), usable)


class NinjaFile:
    """A build.ninja in the making."""

    def __init__(self, cxx: list[str], flags: list[str], nvcc: Path | None) -> None:
        self.compiler = cxx
        self.lines = [
            f"cxx = {shlex.join(cxx)}",
            f"flags = {shlex.join(flags)}",
            "rule compile",
            "  command = $cxx $flags $extra -MMD -MF $out.d -c $in -o $out",
            "  depfile = $out.d",
            "  deps = gcc",
            "  description = compile $out",
            f"nvcc = {nvcc}",
            f"nvcc_flags = {shlex.join(NVCC_FLAGS)}",
            "rule compile_cuda",
            "  command = $nvcc $nvcc_flags $extra -MMD -MF $out.d -c $in -o $out",
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
        rule = "compile_cuda" if source.suffix == ".cu" else "compile"
        self._build(rule, name, [str(source)], extra)
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
        if name.rpartition(".")[2].startswith("libemokernel"):
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
        flags = [*COMMON_FLAGS, f"-ffile-prefix-map={ROOT}=emokernel"]
        self.toolkit = find_toolkit(torch.version.cuda)
        self.file = NinjaFile(compiler(), flags, self.toolkit.nvcc if self.toolkit else None)
        # The selector of the level is in both products: the module tells what the library will do.
        self.x86_flag = ["-DEMOKERNEL_X86"] if len(isa_levels()) > 1 else []
        self.isa_object = self.file.compile(CSRC / "launchers/cpu_isa.cpp", self.x86_flag)
        self.torch_libraries = [f"-L{path}" for path in library_paths()]
        self.binding = [torch_target_macro()]
        self.binding += [flag for path in include_paths() for flag in ("-isystem", path)]
        self.shared_objects = [self.compile_binding(name) for name in ("tensor", "checks", "call")]
        self.add_library()
        if self.toolkit:
            self.add_cuda_library(self.toolkit)
        else:
            self.leave_out(CUDA_LIBRARY)
        self.add_build_info(pybind11.get_include(), torch.__version__, torch.version.git_version)
        self.add_direct(include_paths())
        folder = Path(self.build_temp).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        jobs = self.parallel or int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)
        self.file.run(folder, jobs, verbose=self.verbose > 1)

    def output(self, name: str) -> Path:
        path = Path(self.get_ext_fullpath(name)).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def compile_binding(self, name: str, extra: Sequence[str] = ()) -> str:
        return self.file.compile(CSRC / f"binding/{name}.cpp", [*self.binding, *extra])

    def link_library(self, out: Path, objects: list[str], extra: Sequence[str] = ()) -> None:
        # No run path: the process has loaded its own libtorch_cpu, whatever its version.
        flags = [*self.torch_libraries, "-ltorch_cpu", *extra, "-Wl,-z,defs"]
        self.file.link(out, [*self.shared_objects, *objects], flags)

    def add_library(self) -> None:
        compile_source = self.file.compile
        objects = [
            self.isa_object,
            compile_source(CSRC / "launchers/cpu_rows.cpp", self.x86_flag),
            self.compile_binding("cpu"),
        ]
        for level in isa_levels():
            header, flags = ISA_LEVELS[level]
            defines = [f"-DEMOKERNEL_ISA={level}", f'-DEMOKERNEL_VEC="{header}"']
            objects.append(compile_source(CSRC / "kernels/rows.cpp", [*flags, *defines], level))
        self.link_library(self.output("emokernel.libemokernel"), objects)

    def leave_out(self, name: str) -> None:
        self.extensions = [extension for extension in self.extensions if extension.name != name]
        if self.editable_mode or self.inplace:  # that of an earlier build would not fit this one
            (ROOT / self.get_ext_filename(name)).unlink(missing_ok=True)

    def add_cuda_library(self, toolkit: Toolkit) -> None:
        headers = ["-isystem", str(toolkit.home / "include")]
        objects = [
            self.file.compile(CSRC / "launchers/cuda_rows.cpp", headers),
            self.compile_binding("cuda"),
        ]
        for stream in STREAM_TYPES:
            flags = [*toolkit.code_flags(), f"-DEMOKERNEL_T={stream}"]
            objects.append(self.file.compile(CSRC / "kernels/cuda_rows.cu", flags, stream.lower()))
        # The runtime is linked in, so that the library loads without a driver.
        runtime = [f"-L{toolkit.home / 'lib64'}", "-lcudart_static", "-ldl", "-lrt", "-lpthread"]
        self.link_library(self.output(CUDA_LIBRARY), objects, runtime)

    def add_direct(self, torch_includes: list[str]) -> None:
        flags: list[str] = []
        for path in (*torch_includes, sysconfig.get_path("include")):
            flags += ["-isystem", path]
        direct = self.file.compile(CSRC / "binding/direct.cpp", flags)
        libraries = [f"-l{name}" for name in ("torch_python", "torch_cpu", "torch", "c10")]
        self.file.link(
            self.output("emokernel._direct"), [direct], [*self.torch_libraries, *libraries]
        )

    def add_build_info(self, pybind11_include: str, torch_version: str, torch_git: str) -> None:
        facts = {
            "VERSION": package_version(),
            "COMPILER": compiler_version(self.file.compiler),
            "FLAGS": " ".join(COMMON_FLAGS),
            "TORCH_BUILT": torch_version,
            "TORCH_GIT": torch_git,
            "TORCH_TARGET": ".".join(map(str, TORCH_TARGET)),
            "CUDA_COMPILER": self.toolkit.version if self.toolkit else "",
            "CUDA_ARCHITECTURES": (
                " ".join(map(str, self.toolkit.architectures)) if self.toolkit else ""
            ),
        }
        flags = [f'-DEMOKERNEL_{key}="{value}"' for key, value in facts.items()]
        for path in (pybind11_include, sysconfig.get_path("include")):
            flags += ["-isystem", path]
        info = self.file.compile(CSRC / "binding/build_info.cpp", flags)
        self.file.link(self.output("emokernel._build_info"), [info, self.isa_object], [])


def extensions() -> list[Extension]:
    """None where nothing is built so far: all but the kernels is plain Python and works there."""
    if sys.platform != "linux":
        print(
            "emokernel: the kernels are built on Linux only so far; this installs without them, and"
            " backend='reference' is plain PyTorch",
            file=sys.stderr,
        )
        return []
    names = ("emokernel.libemokernel", CUDA_LIBRARY, "emokernel._build_info", "emokernel._direct")
    return [Extension(name, sources=[]) for name in names]


setup(ext_modules=extensions(), cmdclass={"build_ext": NinjaBuild})
