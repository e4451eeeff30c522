"""The scripts that made the embedded model, its vectors and the judges from public text."""
