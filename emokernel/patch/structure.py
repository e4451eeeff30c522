"""The structure of a block: which of its adds put a branch on the residual stream.

Nothing here knows the name of a model. The *end* add is the one whose result the block returns. The
*attention* add is the first whose result something in the same block reads (the norm before the
MLP, or the MLP itself): a block that adds attention and MLP to the stream at once has none.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from emokernel.errors import ModelStructureError
from emokernel.patch.decoder import Decoder
from emokernel.patch.observe import Addition, BlockRun, Observation


@dataclass(frozen=True)
class BlockAdds:
    """The adds of one block; None where it has none that can be seen.

    ``branch`` is the operand of the attention add that the branch is, where the other one is what
    the block was given.
    """

    attention: Addition | None
    end: Addition | None
    branch: int | None


def read_block(observed: Observation, index: int, block: nn.Module) -> BlockAdds:
    """The adds of block ``index`` in a run of the model."""
    run = observed.blocks[index]
    end = _end(run)
    # What the block itself adds counts before what its parts do, and of that only what they add to
    # the block's input: they have adds of their own.
    own = [addition for addition in run.additions if addition.place[0] == ""]
    theirs = [
        addition
        for addition in run.additions
        if addition.place[0] != "" and _branch(run, addition) is not None
    ]
    attention = next(
        (
            addition
            for addition in own + theirs
            if addition is not end and _is_read_within(observed, index, block, addition)
        ),
        None,
    )
    return BlockAdds(attention, end, _branch(run, attention))


def own_part(decoder: Decoder, block: nn.Module, name: str) -> nn.Module:
    """The part of ``block`` of that name; ModelStructureError if other blocks have it too.

    It is to be changed for its own layer alone.
    """
    part = block.get_submodule(name)
    if name and any(part in set(o.modules()) for o in decoder.blocks if o is not block):
        raise ModelStructureError(
            f"a {type(part).__name__} with a residual add is shared by two blocks, and one module"
            " cannot belong to two layers: give each block its own"
        )
    return part


def _branch(run: BlockRun, addition: Addition | None) -> int | None:
    given = [] if addition is None else [run.hidden.is_read_by(o) for o in addition.operands]
    return given.index(False) if sum(given) == 1 else None


def _end(run: BlockRun) -> Addition | None:
    fits = [addition for addition in run.additions if addition.result.is_read_by(run.result)]
    return fits[-1] if fits else None


def _is_read_within(
    observed: Observation, index: int, block: nn.Module, addition: Addition
) -> bool:
    return any(
        read.block == index and read.module is not block
        for read in observed.readers(addition.result)
    )
