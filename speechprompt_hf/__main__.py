"""`python -m speechprompt_hf` is the same as `speechprompt`: what `torchrun -m` and `accelerate launch -m` start."""

from speechprompt_cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
