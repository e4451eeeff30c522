"""What reads emotion from text: three judges that ship with the package, and models of the Hub."""

from emokernel.lab.judges.load import EMBEDDED, EVALUATING, SHIPPED, TRANSFORMER, load_classifier

__all__ = ["EMBEDDED", "EVALUATING", "SHIPPED", "TRANSFORMER", "load_classifier"]
