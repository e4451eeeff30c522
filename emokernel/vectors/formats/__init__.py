"""File formats of emotion vectors, one module for each."""
