"""Units, vocabulary, errors, files and sound: everybody may import it, it imports no layer above."""
