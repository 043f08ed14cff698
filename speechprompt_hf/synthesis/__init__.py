"""Synthetic speech made on the spot by an engine that runs in a process of its own."""
