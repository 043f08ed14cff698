"""How the embedded default backbone was made."""
