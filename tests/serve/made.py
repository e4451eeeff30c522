"""Servers of the embedded model, made as the command makes them."""

from __future__ import annotations

import argparse

from emokernel.commands import serve

BATCHING = ["--cb-num-blocks", "64", "--cb-max-batch-tokens", "64"]
PLAIN = ["--no-continuous-batching"]


def make_server(*arguments):
    """What the command would run; its ``app`` has the routes, its ``front`` all checks too."""
    parser = argparse.ArgumentParser()
    serve.add(parser)
    given = ["embedded", "--device", "cpu", "--port", "0", *arguments]
    chosen, passed_on = parser.parse_known_args(given)
    server, listening = serve.served(chosen, serve.parsed(passed_on))
    listening.close()
    server.front = server.server.config.app
    return server
