"""The console script `speechprompt`.

A package beside `speechprompt_hf` and not inside it: importing anything of `speechprompt_hf` registers its classes
with transformers and so loads torch, while `--help` has to be instant.
Nothing here imports either before a command runs.
"""
