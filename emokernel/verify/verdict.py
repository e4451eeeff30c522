"""The verdict as text that can be pasted into a bug report."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from emokernel.bench import machine, versions
from emokernel.verify.finding import Finding
from emokernel.verify.verification import holds


def verdict(about: Sequence[str], findings: Sequence[Finding]) -> str:
    """The verdict, versions and machine, ``about`` the model line by line, and every finding."""
    lines = [f"emokernel verify: {_outcome(findings)} ({_count(findings)})"]
    here, known = machine(), versions()
    lines += [
        ", ".join(f"{name} {version}" for name, version in known.items() if version),
        f"{platform.platform()}; {here['cpu']}, {here['cores']} cores, {here['threads']} threads,"
        f" {here['isa']}; GPU: {here['gpu'] or 'none'}",
        *about,
        "",
    ]
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        lines.append(
            f"{finding.word:<8}{finding.name:<{width + 2}}{finding.detail}"
            + (f" [{finding.seconds:.1f} s]" if finding.ok is not None else "")
        )
    return "```\n" + "\n".join(line.rstrip() for line in lines) + "\n```"


def _outcome(findings: Sequence[Finding]) -> str:
    outcomes = {finding.ok for finding in findings}
    if not holds(findings):
        return "FAILED" if False in outcomes else "NOTHING WAS SHOWN"
    return "all that ran holds" if None in outcomes else "all holds"


def _count(findings: Sequence[Finding]) -> str:
    counts = {
        word: sum(finding.word == word for finding in findings)
        for word in ("pass", "FAIL", "not run")
    }
    named = {"pass": "passed", "FAIL": "failed", "not run": "not run"}
    return ", ".join(f"{count} {named[word]}" for word, count in counts.items() if count)
