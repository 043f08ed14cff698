"""Other people's checkpoints become files of this package; nothing in them is ever executed."""
