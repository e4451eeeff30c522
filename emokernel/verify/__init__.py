"""The proof on the user's own model and machine: what patching promises, checked one by one."""

from emokernel.verify.subject import Failed, NotRun, Subject
from emokernel.verify.verification import CHECKS, Finding, holds, verdict, verify

__all__ = ["CHECKS", "Failed", "Finding", "NotRun", "Subject", "holds", "verdict", "verify"]
