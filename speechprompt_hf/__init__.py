"""Prompting of speech language models: importing this package registers its classes with the Auto classes."""
