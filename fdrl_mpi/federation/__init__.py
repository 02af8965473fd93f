"""WHEN something happens and WHO takes part: the rounds."""
