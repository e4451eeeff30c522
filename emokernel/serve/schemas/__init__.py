"""The bodies of the three routes of OpenAI's API: what is taken, within which bounds.

A field whose effect this server cannot give is taken only at the value at which it has none; one
that changes no answer (``user``, ``metadata``, ...) is taken and goes no further. `to_handler`
makes of a body what transformers' handlers take.
"""
