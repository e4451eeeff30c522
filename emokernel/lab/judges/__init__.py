"""What reads emotion from text: two judges that ship with the package, and models of the Hub."""

from emokernel.lab.judges.load import EMBEDDED, EVALUATING, load_classifier

__all__ = ["EMBEDDED", "EVALUATING", "load_classifier"]
