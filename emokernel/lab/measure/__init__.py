"""Measuring: writing texts, reading them, and how far steering moves a model; the other rooms of
the lab stand on it, and it knows none of them.
"""
