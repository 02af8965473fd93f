"""WHAT is computed from the updates of a cohort. numpy only."""
