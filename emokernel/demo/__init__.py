"""MODEL: what belongs to a name, how any is loaded; the embedded model and its vectors."""
