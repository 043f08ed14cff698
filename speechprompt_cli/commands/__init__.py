"""One file for each command; each has one function, `run`, which imports the library when it is called."""
