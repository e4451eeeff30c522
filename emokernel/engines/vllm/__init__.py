"""vLLM, steered by a plugin: its own runner, on which methods of instances are replaced.

It needs the lower layer of the seam alone. `hooks` is the one place that touches vLLM's classes; it
leads to `settings` (what a server was asked), `supported` (what it cannot), `asked` (what travels
with a request), `prefix_cache` (which blocks may be shared) and `runner`, where `proof` shows that
the decoder is one whose norms may be replaced, `norms` replaces them, and `rows` says which slot
each row of a step has. Names are resolved before all of this, by
`emokernel.serve.vllm`.
"""
