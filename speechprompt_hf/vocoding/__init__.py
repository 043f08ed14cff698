"""Training of unit vocoders: aligned speech, discriminators, losses, the loop."""
