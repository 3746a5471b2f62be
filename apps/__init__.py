"""Programs: each short, with absl flags; they import kerasllm and serving.clients, never each other."""
