"""The backbone that ships inside the package, and the recipe that made it."""
