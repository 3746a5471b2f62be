"""Customer service: a question finds its reply, its intent, or a person."""
