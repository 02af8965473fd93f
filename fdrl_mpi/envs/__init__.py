"""WHERE agents act, and how their worlds differ. numpy; gymnasium in `gymnasium_*` only."""
