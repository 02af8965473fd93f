"""What papers report, and the runs of this program that should come to it: one file per experiment."""
