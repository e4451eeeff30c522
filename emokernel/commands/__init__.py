"""The commands of the command line, one module for each.

A module has ``add(commands)``, which adds its parser to argparse's subparsers, and ``run(chosen)``,
which carries it out; errors of emokernel's own and OSError are told by `emokernel.cli`.
"""
