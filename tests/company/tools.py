"""What other tools do to a model, each re-created in a few lines; returns what undoes it.

Each changes the model enough to be seen in its logits. What a package does to the tree of modules
is what matters here, not what for.
"""

from __future__ import annotations

import types
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

Undo = Callable[[], None]
Tool = Callable[[nn.Module], Undo]

WIDTH = 64
PUSH = torch.linspace(-1.0, 1.0, WIDTH)
STRETCH = torch.linspace(0.5, 1.5, WIDTH)


def blocks_of(model: nn.Module) -> nn.ModuleList:
    return model.transformer.h if hasattr(model, "transformer") else model.model.layers


def norms_of(model: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """(Block, name in it, norm) of every norm of rows within the blocks."""
    return [
        (block, name, module)
        for block in blocks_of(model)
        for name, module in block.named_children()
        if "norm" in name or name.startswith("ln_")
    ]


def changed(output: Tensor | tuple, change: Callable[[Tensor], Tensor]) -> Tensor | tuple:
    """What a block or a branch returns, with its rows changed."""
    return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)


def undoing(handles: list[RemovableHandle]) -> Undo:
    def undo() -> None:
        for handle in handles:
            handle.remove()

    return undo


class ControlWrapper(nn.Module):
    """A wrapper with one child that stands in the place of a block, like that of repeng."""

    def __init__(self, block: nn.Module, operator: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.block, self.operator = block, operator

    def forward(self, *args: object, **kwargs: object) -> object:
        output = self.block(*args, **kwargs)
        return output if self.operator is None else changed(output, self.operator)


def wrap_blocks(
    model: nn.Module, operator: Callable[[Tensor], Tensor] | None, layers: tuple[int, ...] = (0, 2)
) -> Undo:
    blocks = blocks_of(model)
    for layer in layers:
        blocks[layer] = ControlWrapper(blocks[layer], operator)

    def unwrap() -> None:
        for layer in layers:
            blocks[layer] = blocks[layer].block

    return unwrap


def wrappers_that_add(model: nn.Module) -> Undo:
    """repeng: rows + control, in new memory."""
    return wrap_blocks(model, lambda rows: rows + PUSH)


def wrappers_that_keep_the_norm(model: nn.Module) -> Undo:
    """repeng with ``normalize=True``."""

    def operator(rows: Tensor) -> Tensor:
        moved = rows + PUSH
        return moved / moved.norm(dim=-1, keepdim=True) * rows.norm(dim=-1, keepdim=True)

    return wrap_blocks(model, operator)


def forwards_that_write_to_rows(model: nn.Module) -> Undo:
    """llm-steer: the forward of some blocks is one that first adds to the rows, in place."""

    def around(forward: Callable) -> Callable:
        def write(*args: object, **kwargs: object) -> object:
            rows = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            rows[:, :, :] += PUSH
            return forward(*args, **kwargs)

        return write

    return replace_forwards([blocks_of(model)[layer] for layer in (1, 2)], around)


def replace_forwards(modules: list[nn.Module], around: Callable[[Callable], Callable]) -> Undo:
    """``module.forward = around(module.forward)``, and back to what was there, as tools do it."""
    before = [(module, module.forward) for module in modules]
    for module, forward in before:
        module.forward = around(forward)

    def undo() -> None:
        for module, forward in before:
            module.forward = forward

    return undo


def hooks_that_write_to_rows(model: nn.Module) -> Undo:
    """steering-vectors: forward hooks that write the sum into what the block returned."""

    def hook(_: nn.Module, __: object, output: Tensor | tuple) -> object:
        rows = output[0] if isinstance(output, tuple) else output
        rows[None] = rows + PUSH
        return output

    return undoing([block.register_forward_hook(hook) for block in blocks_of(model)])


def hooks_that_return_rows(model: nn.Module) -> Undo:
    """A user's own forward hooks."""

    def hook(_: nn.Module, __: object, output: Tensor | tuple) -> object:
        return changed(output, lambda rows: rows * STRETCH)

    return undoing([block.register_forward_hook(hook) for block in blocks_of(model)])


def hooks_past_the_count_of_versions(model: nn.Module) -> Undo:
    """Writes that torch does not count, in no mode."""

    def hook(_: nn.Module, __: object, output: Tensor | tuple) -> None:
        (output[0] if isinstance(output, tuple) else output).data.mul_(STRETCH)

    return undoing([block.register_forward_hook(hook) for block in blocks_of(model)])


def hooks_on_norms(model: nn.Module) -> Undo:
    def hook(_: nn.Module, __: object, output: Tensor) -> Tensor:
        return output * STRETCH

    return undoing([norm.register_forward_hook(hook) for _, _, norm in norms_of(model)])


def pre_hooks_on_norms(model: nn.Module) -> Undo:
    def hook(_: nn.Module, args: tuple) -> tuple:
        return (args[0] * STRETCH, *args[1:])

    return undoing([norm.register_forward_pre_hook(hook) for _, _, norm in norms_of(model)])


def pre_hooks_on_branches(model: nn.Module) -> Undo:
    def hook(_: nn.Module, args: tuple) -> tuple:
        return (args[0] * STRETCH, *args[1:])

    return undoing([block.mlp.register_forward_pre_hook(hook) for block in blocks_of(model)])


def global_hooks(model: nn.Module) -> Undo:
    """nnsight and profilers hook every module there is."""
    norms = {norm for _, _, norm in norms_of(model)}

    def hook(module: nn.Module, _: object, output: object) -> object:
        return output * STRETCH if module in norms else None

    return undoing([nn.modules.module.register_module_forward_hook(hook)])


def other_forwards_of_norms(model: nn.Module) -> Undo:
    """Liger and kernels of the Hub: another forward is bound to each norm."""

    def forward(self: nn.Module, rows: Tensor) -> Tensor:
        return rows * (rows.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * (1.2 * self.weight)

    return replace_forwards(
        [norm for _, _, norm in norms_of(model)],
        lambda own: types.MethodType(
            forward, own.__self__ if hasattr(own, "__self__") else own.module
        ),
    )


def forwards_around_branches(model: nn.Module) -> Undo:
    return replace_forwards(
        [block.mlp for block in blocks_of(model)],
        lambda forward: lambda *args, **kwargs: forward(*args, **kwargs) * STRETCH,
    )


def _replaced(parts: list[tuple[nn.Module, str, nn.Module]], make: Callable) -> Undo:
    for holder, name, module in parts:
        holder.register_module(name, make(module))

    def undo() -> None:
        for holder, name, module in parts:
            holder.register_module(name, module)

    return undo


def other_norms(model: nn.Module) -> Undo:
    """Another kind of norm in the place of each."""

    def make(norm: nn.Module) -> nn.Module:
        other = nn.LayerNorm(WIDTH)
        other.weight.data = norm.weight.detach() * STRETCH
        return other

    return _replaced(norms_of(model), make)


def other_branches(model: nn.Module) -> Undo:
    def make(_: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(6)
        other = nn.Linear(WIDTH, WIDTH)
        for parameter in other.parameters():
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
        return other

    return _replaced([(block, "mlp", block.mlp) for block in blocks_of(model)], make)


class _Stretched(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * STRETCH


def parametrized_norms(model: nn.Module) -> Undo:
    norms = [norm for _, _, norm in norms_of(model)]
    for norm in norms:
        parametrize.register_parametrization(norm, "weight", _Stretched())

    def undo() -> None:
        for norm in norms:
            parametrize.remove_parametrizations(norm, "weight", leave_parametrized=False)

    return undo


TOOLS: dict[str, Tool] = {
    tool.__name__.replace("_", " "): tool
    for tool in (
        wrappers_that_add,
        wrappers_that_keep_the_norm,
        forwards_that_write_to_rows,
        hooks_that_write_to_rows,
        hooks_that_return_rows,
        hooks_past_the_count_of_versions,
        hooks_on_norms,
        pre_hooks_on_norms,
        pre_hooks_on_branches,
        global_hooks,
        other_forwards_of_norms,
        forwards_around_branches,
        other_norms,
        other_branches,
        parametrized_norms,
    )
}
# Refused while they are there: they hide the source of the block that they replaced.
ONLY_AFTERWARDS = ("forwards that write to rows",)
