"""Reading a model's structure and replacing its forwards; knows no emotions."""

from emokernel.patch.decoder_forward import handle_of
from emokernel.patch.patcher import Patch, PatchedLayer

__all__ = ["Patch", "PatchedLayer", "handle_of"]
