"""What does steering cost in each of the systems that exist, run for real, on one model?

    make peers                      # an environment for each; once
    python benchmarks/peers/run.py [--quick] [--peers ...] [--models smollm2 embedded]

Every peer runs in an environment of its own, by the usage that its README recommends (drivers/), on
the same weights, vectors and layers. First its logits are compared with those of a plain hook in
that environment; one that does something else is not timed, and a row says what it does. Then each
round times all of them, in an order that is shuffled: unpatched, unpatched again and steered. A
ratio is steered / unpatched of one environment, paired by round, and told only if it is outside of
what unpatched differs from itself there. Writes JSON lines, a table and a picture to
benchmarks/results.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from check import Check, Checker
from client import Failed, Refused, Worker
from picture import draw
from rounds import Timed, measure_case, row
from shapes import LAYERS, Case, Model, cases, prepare
from table import write_table
from tqdm import tqdm

import emokernel
from emokernel.bench.harness import append, now, read

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
REFERENCE = "plain-hook"
OURS = (REFERENCE, "emokernel")  # in the environment that this runs in
LLAMA = "llama-cpp"
PEERS = (*OURS, *sorted(file.stem for file in (HERE / "environments").glob("*.txt")))


class Run:
    """Workers that are started once, and what they are asked."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self._options, self._date = options, options.date or now()
        self._workers: dict[str, Worker] = {}
        self.path: Path | None = None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in dict.fromkeys([REFERENCE, *options.peers]):
            python = self._python(name)
            if python.exists():
                # A peer sees nothing of this environment.
                path = str(Path(emokernel.__file__).parents[1]) if name in OURS else ""
                driver, variables = name.replace("-", "_"), {"PYTHONPATH": path}
                worker = Worker(name, python, driver, environment=variables)
                stack.callback(worker.close)
                self._workers[name] = worker
            else:
                environment = f"{options.environments}/{name}"
                reason = f"not installed: make {environment}/ready makes {environment}"
                self._record([{"row": "peer", "peer": name, "empty": reason}])
        self._models = [
            prepare(name, folder, gguf=LLAMA in self._workers) for name in options.models
        ]

    def __call__(self) -> None:
        """All models, laws and cases; ``path`` is the file of results."""
        options = self._options
        wanted = cases(options.batch_sizes, options.steered, options.mixes, options.laws)
        with tqdm(total=len(wanted) * len(self._models), desc="cases", file=sys.stderr) as bar:
            for model in self._models:
                for law in options.laws:
                    checks = self._checked(model, law)
                    for case in wanted:
                        if case.law == law:
                            bar.set_description(f"{model.name}: {case}")
                            self._case(model, case, checks)
                            bar.update()

    def _checked(self, model: Model, law: str) -> dict[str, Check]:
        options, checks = self._options, {}
        checker = Checker(self._workers[REFERENCE], model, options.dtype)
        for name, worker in tqdm(self._workers.items(), desc="checking", leave=False):
            about = {"row": "check", "peer": name, "model": model.name, "law": law}
            try:
                said = worker(
                    "load",
                    model=str(model.folder),
                    dtype=options.dtype,
                    threads=options.threads,
                    vectors=str(model.vectors),
                    layers=model.layers,
                    law=law,
                    gguf=model.gguf,
                )
                if law not in said["laws"]:
                    raise Refused(f"no such law: it has {', '.join(said['laws'])}")
                checks[name] = checker(worker, law, said)
            except (Failed, Refused) as reason:
                self._record([{**about, "empty": str(reason)}])
            else:
                self._record([checks[name].fields()])
        return checks

    def _case(self, model: Model, case: Case, checks: dict[str, Check]) -> None:
        options, peers = self._options, []
        for name in options.peers:
            reason = checks[name].refusal(case) if name in checks else None
            if reason:
                about = {"row": "case", "peer": name, "model": model.name, **case.fields()}
                self._record([{**about, "empty": reason}])
            elif name in checks:
                peers.append(Timed(self._workers[name]))
        try:
            measure_case(
                peers,
                model,
                case,
                prompt_tokens=options.prompt_tokens,
                new_tokens=options.new_tokens,
                rounds=options.rounds,
                memory_rounds=options.memory_rounds,
                seconds=options.seconds,
                wrap=partial(tqdm, desc="rounds", leave=False),
            )
        finally:
            self._record([row(peer, model, case) for peer in peers])

    def _record(self, rows: Iterable[dict[str, Any]]) -> None:
        names = "dtype", "threads", "prompt_tokens", "new_tokens"
        about = {name: getattr(self._options, name) for name in names}
        rows = [{**row, **about} for row in rows]
        self.path = append(self._options.output, "peers", rows, self._date)

    def _python(self, name: str) -> Path:
        if name in OURS:
            return Path(sys.executable)
        return self._options.environments / name / "bin" / "python"


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, --quick in place."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--environments", type=Path, default=Path(".venv-peers"), help="a folder for each peer")
    add("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    add("--models", nargs="+", choices=LAYERS, default=list(LAYERS))
    add("--batch-sizes", type=int, nargs="+", default=[1, 8, 32])
    add("--steered", type=float, nargs="+", default=[0.5, 1], help="shares of the sequences")
    add("--mixes", type=int, nargs="+", default=[1, 8, 32], help="how many different ones")
    add("--laws", nargs="+", choices=["add", "preserve"], default=["add", "preserve"])
    add("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    add("--prompt-tokens", type=int, default=8)
    add("--new-tokens", type=int, default=6)
    add("--rounds", type=int, default=30, help="of a case; six where --seconds are over")
    add("--seconds", type=float, default=30, help="of the rounds of a case")
    add("--memory-rounds", type=int, default=3)
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--quick", action="store_true", help="three minutes: fewer cases and rounds, no memory")
    add("--date", help="of a recorded run, as its rows have it, to which cases are to be added")
    add("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(arguments)
    if options.quick:
        options.batch_sizes, options.steered, options.mixes = [1, 8], [1], [1]
        options.laws, options.new_tokens = ["add"], 4
        options.rounds, options.memory_rounds = 6, 0
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = parsed(arguments)
    with ExitStack() as stack:
        run = Run(options, stack)
        try:
            run()
        except KeyboardInterrupt:
            print("interrupted; what was finished is kept", file=sys.stderr)
    path = run.path
    if path is None:
        return
    rows = read(path)
    print(write_table(rows, path.with_suffix(".md")))
    print(f"\n{path}\n{path.with_suffix('.md')}\n{draw(rows, path.with_suffix('.png'))}")


if __name__ == "__main__":
    main()
