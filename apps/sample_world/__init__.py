"""The sample world: synthetic bilingual text, labels, dialogues and ratings, so that every program can be tried."""
