"""Programs that measure one claim each and print both sides of a comparison made in one run."""
