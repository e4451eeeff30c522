"""All checks, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

from emokernel.errors import EmokernelError
from emokernel.verify.checks import (
    effect,
    exactness,
    fused_norms,
    independence,
    positions,
    restored,
    structure,
)
from emokernel.verify.compiled import compiled, cuda_graphs
from emokernel.verify.finding import Failed, Finding, NotRun
from emokernel.verify.speed import speed
from emokernel.verify.subject import Subject

Check = Callable[[Subject], str]

STRUCTURE = "structure"
CHECKS: dict[str, Check] = {
    STRUCTURE: structure,
    "exactness": exactness,
    "fused-norms": fused_norms,
    "effect": effect,
    "independence": independence,
    "positions": positions,
    "unpatch": restored,
    "compile": compiled,
    "cuda-graphs": cuda_graphs,
    "speed": speed,
}


def check_names(names: Collection[str]) -> None:
    """EmokernelError for what is no check."""
    unknown = sorted(set(names) - set(CHECKS))
    if unknown:
        raise EmokernelError(
            f"unknown check {', '.join(unknown)}: choose from {', '.join(CHECKS)}"
        )


def verify(
    subject: Subject,
    skip: Collection[str] = (),
    wrap: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> list[Finding]:
    """A finding for every check of `CHECKS`, in order. ``skip``: those to leave out.

    ``wrap`` may be tqdm. EmokernelError for an unknown check. Where the model cannot be patched,
    the others are not run.
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
        ok, detail = False, str(reason)
    except Exception as error:  # a crash is a finding: the others are still worth having
        ok, detail = False, f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return Finding(name, ok, detail, time.monotonic() - start)


def holds(findings: Iterable[Finding]) -> bool:
    """Whether a check passed and none failed; those that were not run do not count."""
    outcomes = {finding.ok for finding in findings}
    return True in outcomes and False not in outcomes
