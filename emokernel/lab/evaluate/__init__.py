"""Measuring generated text: fluency, and the affect a classifier reads in it."""
