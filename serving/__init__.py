"""Everything between a trained workdir and an answer over the network."""
