"""The embedded model and its vectors, what is shown with them, and the scripts that made them."""
