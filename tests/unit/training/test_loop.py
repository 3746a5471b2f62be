"""The loop's promises: the same numbers however the rows are spread, bad steps skipped, stop and go on."""
