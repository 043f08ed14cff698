"""Experiments as declarations: data sets × methods × seeds, run, resumed and tabulated."""
