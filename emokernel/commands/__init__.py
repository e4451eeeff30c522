"""The commands of the command line, one module for each, imported when it is asked for.

A module has ``add(parser)``, which adds its arguments, and ``run(chosen)``, which carries it out;
errors of emokernel's own and OSError are told by `emokernel.cli`.
"""
