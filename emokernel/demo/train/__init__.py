"""The scripts that made the embedded model and its judge from public text."""
