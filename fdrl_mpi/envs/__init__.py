"""WHERE agents act, and how their worlds differ. numpy and gymnasium."""
