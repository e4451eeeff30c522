"""Small random models in files, from which every process loads its part, and their vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    NemotronConfig,
    PreTrainedModel,
    Qwen3MoeConfig,
)

from emokernel import EmotionVectors, Request
from emokernel.errors import EmokernelError

LAYERS, WIDTH = 3, 64
_SIZES = {
    "vocab_size": 96, "hidden_size": WIDTH, "intermediate_size": 128, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_CONFIGS = {
    "llama": lambda: LlamaConfig(**_SIZES),
    "gemma2": lambda: Gemma2Config(**_SIZES, head_dim=16),
    "nemotron": lambda: NemotronConfig(**_SIZES),  # norms that multiply by 1 + weight
    "qwen3_moe": lambda: Qwen3MoeConfig(
        **_SIZES, head_dim=16, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32
    ),
}
# One of each kind: preserve, nothing, a mix that is added, a negative in units of the row's norm.
REQUESTS = (
    Request("joy", 2.0),
    Request(None),
    Request({"anger": 1.0, "sadness": 0.5}, law="add"),
    Request("surprise", -0.5, dose="relative", positions="last"),
)


class Models:
    """The models of a folder that all processes share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, family: str = "llama", **options: object) -> PreTrainedModel:
        """A fresh one in eval mode, this process's part of it if the ``options`` say so."""
        path = self._folder / family
        if dist.get_rank() == 0 and not path.exists():
            self._save(family, path)
        dist.barrier()
        model = AutoModelForCausalLM.from_pretrained(path, **options).eval()
        model.generation_config.eos_token_id = None
        return model

    def spread(self, family: str = "llama", **sizes: object) -> PreTrainedModel:
        """One that transformers spreads over the processes, as a `DistributedConfig` of ``sizes``.

        transformers deprecates ``tp_plan`` as an argument of its own.
        """
        from transformers.distributed.configuration_utils import DistributedConfig

        return self.load(family, distributed_config=DistributedConfig(**sizes))

    @staticmethod
    def _save(family: str, path: Path) -> None:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(_CONFIGS[family]())
        for name, parameter in model.named_parameters():
            if "norm" in name:  # all ones (or zeros) would hide how a norm multiplies
                parameter.data.uniform_(0.5, 1.5)
        model.save_pretrained(path)


def vectors(site: str = "attention", scale: float = 0.2) -> EmotionVectors:
    """Four emotions, about as long as the rows."""
    generator = torch.Generator().manual_seed(1)
    names = ("anger", "joy", "sadness", "surprise")
    return EmotionVectors.from_tensors(
        {name: scale * torch.randn(LAYERS, WIDTH, generator=generator) for name in names}, site=site
    )


def batch() -> dict[str, Tensor]:
    """Four prompts with 0, 2, 3 and 5 pads on the left."""
    ids = torch.randint(3, 96, (4, 7), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    for row, pads in enumerate((0, 2, 3, 5)):
        ids[row, :pads], mask[row, :pads] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def logits(model: nn.Module) -> Tensor:
    """Of `batch`, those of padding zero."""
    given = batch()
    with torch.no_grad():
        return model(**given).logits * given["attention_mask"][..., None]


def refusal(act: Callable[[], object]) -> str:
    """The class and the message of the emokernel error that ``act`` raises, "" if none."""
    try:
        act()
    except EmokernelError as error:
        return f"{type(error).__name__}: {error}"
    return ""


class Collectives(TorchDispatchMode):
    """Within it, every communication of processes is noted: ``seen``, name and shapes in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, function: object, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if any(kind.__name__ == "DTensor" for kind in types):
            return NotImplemented  # it comes back in parts
        if function.namespace in ("c10d", "_c10d_functional"):
            shapes = [list(each.shape) for each in _tensors(args)]
            self.seen.append(f"{function} {shapes}")
        return function(*args, **(kwargs or {}))


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for each in value for t in _tensors(each)] if isinstance(value, list | tuple) else []
