"""How the vectors of smollm2 that ship are made."""
