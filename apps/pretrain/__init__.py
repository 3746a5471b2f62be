"""Pretraining BERT and GPT on your own text."""
