"""The numbers of a run, for other programs."""
