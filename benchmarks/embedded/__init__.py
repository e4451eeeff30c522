"""What made the embedded model, its vectors and the judges from public text.

    cd benchmarks
    python -m embedded.language_model --data DIR

writes into the package's assets; `embedded.corpus` says what DIR holds.
"""
