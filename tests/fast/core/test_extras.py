import subprocess
import sys

import pytest

from speechprompt_hf.core.errors import MissingDependencyError
from speechprompt_hf.core.extras import require

BROKEN = "raise OSError('Could not load this library: _torchaudio.abi3.so')\n"


def run_with_torchaudio(tmp_path, code, body):
    """Run `code` in a process whose torchaudio is `body`."""
    (tmp_path / "torchaudio.py").write_text(body)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_a_missing_extra_is_one_sentence_with_the_command_to_install_it():
    with pytest.raises(MissingDependencyError, match=r'pip install "speechprompt-hf\[demo\]"'):
        require("a_module_that_does_not_exist", "demo")


def test_a_broken_torchaudio_is_one_sentence(tmp_path):
    code = "from speechprompt_hf.core.extras import check_torchaudio, torchaudio_is_usable\n"
    code += "assert not torchaudio_is_usable()\ncheck_torchaudio()"
    run = run_with_torchaudio(tmp_path, code, BROKEN)
    assert run.returncode == 1
    assert "torchaudio is installed but does not load" in run.stderr
    assert "pip uninstall torchaudio" in run.stderr


def test_a_working_torchaudio_is_used(tmp_path):
    code = "from speechprompt_hf.core.extras import check_torchaudio; assert check_torchaudio()"
    assert run_with_torchaudio(tmp_path, code, "__version__ = '2.11.0'\n").returncode == 0
