"""Watching the mood of a stream of texts: events, windows, surges, and a journal that survives being killed."""
