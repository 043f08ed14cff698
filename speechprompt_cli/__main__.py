"""`python -m speechprompt_cli` is the same as `speechprompt`."""

from .main import main

if __name__ == "__main__":
    raise SystemExit(main())
