"""All checks, one after the other, and the verdict as text to paste into a bug report."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from emokernel.bench import machine, versions
from emokernel.errors import EmokernelError
from emokernel.verify import checks
from emokernel.verify.compiled import compiled, cuda_graphs
from emokernel.verify.subject import Failed, NotRun, Subject

STRUCTURE = "structure"
CHECKS: dict[str, Callable[[Subject], str]] = {
    STRUCTURE: checks.structure,
    "exactness": checks.exactness,
    "fused-norms": checks.fused_norms,
    "effect": checks.effect,
    "independence": checks.independence,
    "positions": checks.positions,
    "unpatch": checks.restored,
    "compile": compiled,
    "cuda-graphs": cuda_graphs,
}


@dataclass(frozen=True)
class Finding:
    """What a check found.

    ``ok`` is None where it was not run; ``detail`` has its numbers, or why not.
    """

    name: str
    ok: bool | None
    detail: str
    seconds: float = 0.0

    @property
    def word(self) -> str:
        """The outcome in a word or two."""
        return {True: "pass", False: "FAIL", None: "not run"}[self.ok]


def check_names(names: Collection[str]) -> None:
    """EmokernelError for what is no check."""
    unknown = sorted(set(names) - set(CHECKS))
    if unknown:
        raise EmokernelError(f"unknown check {', '.join(unknown)}: choose from {', '.join(CHECKS)}")


def verify(
    subject: Subject,
    skip: Collection[str] = (),
    wrap: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> list[Finding]:
    """A finding for every check of `CHECKS`, in order. ``skip``: those to leave out.

    ``wrap`` may be tqdm; it is given the names as their checks begin. EmokernelError for an unknown
    check. Where the model cannot be patched, the others are not run.
    """
    check_names(skip)
    findings: list[Finding] = []
    unpatchable = False
    for name in wrap(CHECKS):
        if name in skip:
            findings.append(Finding(name, None, "skipped"))
        elif unpatchable:
            findings.append(Finding(name, None, "the model cannot be patched"))
        else:
            findings.append(_made(name, subject))
            unpatchable = name == STRUCTURE and findings[-1].ok is False
    return findings


def _made(name: str, subject: Subject) -> Finding:
    start = time.monotonic()
    ok: bool | None = False
    try:
        ok, detail = True, CHECKS[name](subject)
    except NotRun as reason:
        ok, detail = None, str(reason)
    except (Failed, EmokernelError) as reason:
        detail = str(reason)
    except Exception as error:  # a crash is a finding: the others are still worth having
        detail = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return Finding(name, ok, detail, time.monotonic() - start)


def holds(findings: Iterable[Finding]) -> bool:
    """Whether a check passed and none failed; those that were not run do not count."""
    outcomes = {finding.ok for finding in findings}
    return True in outcomes and False not in outcomes


def verdict(about: Sequence[str], findings: Sequence[Finding]) -> str:
    """The verdict, versions and machine, ``about`` the model line by line, and every finding."""
    words = [finding.word for finding in findings]
    outcome = "all holds" if "not run" not in words else "all that ran holds"
    if not holds(findings):
        outcome = "FAILED" if "FAIL" in words else "NOTHING WAS SHOWN"
    told = {"pass": "passed", "FAIL": "failed", "not run": "not run"}
    counts = ", ".join(f"{words.count(w)} {name}" for w, name in told.items() if w in words)
    here, known = machine(), versions()
    lines = [
        f"emokernel verify: {outcome} ({counts})",
        ", ".join(f"{name} {version}" for name, version in known.items() if version),
        f"{platform.platform()}; {here['cpu']}, {here['cores']} cores, {here['threads']} threads,"
        f" {here['isa']}; GPU: {here['gpu'] or 'none'}",
        *about,
        "",
    ]
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        seconds = "" if finding.ok is None else f" [{finding.seconds:.1f} s]"
        lines.append(f"{finding.word:<8}{finding.name:<{width + 2}}{finding.detail}{seconds}")
    return "```\n" + "\n".join(line.rstrip() for line in lines) + "\n```"
