"""In-context learning: labels that warm-up never saw, told by spoken examples before the question."""
