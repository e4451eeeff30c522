"""The proof on the user's own model and machine: what patching promises, checked one by one."""

from emokernel.verify.finding import Failed, Finding, NotRun
from emokernel.verify.subject import Subject
from emokernel.verify.verdict import verdict
from emokernel.verify.verification import CHECKS, holds, verify

__all__ = ["CHECKS", "Failed", "Finding", "NotRun", "Subject", "holds", "verdict", "verify"]
