"""The embedded demo: a small conditioned language model, its judge, and how both were made."""
