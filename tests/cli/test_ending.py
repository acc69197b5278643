"""How commands end: argv to exit code, one line of error, and nothing that ends with Python's own 1."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exporter.cli.app import COMMANDS, app, exit_codes
from exporter.cli.ending import worded
from exporter.errors import NoVerdict, Unplanned
from tests.support import write_pairs, write_recipe

FULL = Path("/dev/full")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def shell(line: str, *, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which `$X` is the command line."""
    command = f"{sys.executable} -m exporter"
    root = str(Path(__file__).resolve().parents[2])
    env = {**os.environ, "PYTHONPATH": root, "X": command, **environment}
    return subprocess.run(["bash", "-c", line], capture_output=True, check=False, cwd=cwd, env=env)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with all that is no artifact, no recipe and no folder."""
    write_pairs(tmp_path / "pairs.jsonl")
    write_pairs(tmp_path / "calibrate.jsonl", seed=5)
    (tmp_path / "model").mkdir()
    write_recipe(tmp_path, "onnx")
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "forged").mkdir()
    (tmp_path / "forged/manifest.json").write_text("{}", encoding="utf-8")
    return tmp_path


TABLE = [
    ("", 2, "Usage:"),
    ("exprot", 2, "No such command 'exprot'. Did you mean 'export'?; see `exporter --help`"),
    ("doctor --frob", 2, "No such option: --frob; see `exporter doctor --help`"),
    ("plan", 2, "Missing argument 'RECIPE'; see `exporter plan --help`"),
    ("plan --model", 2, "requires an argument"),
    ("selftest x --trials few", 2, "valid integer"),
    ("selftest x --trials -1", 2, "greater than or equal to 0"),
    ("schema --report --plans", 2, "one of --report, --manifest and --plans"),
    ("--help", 0, ""),
    ("plan --help", 0, ""),
    ("--version", 0, ""),
    ("doctor", 0, ""),
    ("doctor --debug", 0, ""),
    ("--debug doctor --json", 0, ""),
    ("schema --manifest", 0, ""),
    ("plan nowhere.yaml", 2, "no such file"),
    ("plan folder", 2, "no file; a recipe is a YAML file"),
    ("plan dangling", 2, "no such file"),
    ("plan file", 2, "a recipe is a mapping"),
    ("plan recipe.yaml", 2, "model: no model, it has no config.json"),
    ("export recipe.yaml --out out", 2, "model: no model, it has no config.json"),
    ("reference recipe.yaml out", 2, "model: no model, it has no config.json"),
    *(
        (f"{command} {target}", 2, "no such artifact folder")
        for command in (
            "show",
            "gate",
            "verify",
            "profile",
            "bench",
            "selftest",
            "reproduce",
            "check-consumers",
        )
        for target in ("nowhere", "file", "dangling")
    ),
    ("show folder", 2, "no manifest.json"),
    ("show forged", 4, "changed since it was written"),
    ("gate forged", 4, "changed since it was written"),
    ("gate forged --bars nowhere.yaml", 2, "nowhere.yaml: no such file"),
    ("gate forged --bars folder", 2, "no file; a recipe is a YAML file"),
    ("publish nowhere copy", 2, "no such artifact folder"),
    ("publish forged gs://a/b", 2, "did you mean s3://bucket/prefix?"),
    ("compare folder folder", 2, "no manifest.json"),
    ("compare file file", 4, "cannot be read as JSON"),
    ("pull nowhere copy", 2, "nowhere"),
    ("verify-signature forged", 2, "whose signature?"),
    ("verify-signature nowhere --key file", 2, "nowhere"),
]


@pytest.mark.parametrize(("line", "code", "text"), TABLE, ids=[line or "nothing" for line, *_ in TABLE])
def test_arguments_to_exit_code(
    place: Path, monkeypatch: pytest.MonkeyPatch, line: str, code: int, text: str
) -> None:
    """A mistake is one line on stderr and the exit code that the command lists; help and facts are 0."""
    monkeypatch.chdir(place)
    done = run(*line.split())
    assert done.exit_code == code
    assert text in done.stderr
    assert code == 0 or not line or len(done.stderr.strip().splitlines()) == 1
    command = next((word for word in line.split() if word in COMMANDS), None)
    assert command is None or code in exit_codes(command)
    assert sorted(path.name for path in place.iterdir() if path.name in ("out", "copy")) == []


def test_every_command_takes_debug_and_lists_its_codes() -> None:
    """`--help` of each command has `--debug`, and its exit codes with 70 and 130."""
    for name in COMMANDS:
        text = " ".join(run(name, "--help").stdout.split())
        assert "--debug" in text
        for code, meaning in exit_codes(name).items():
            assert f"{code} {meaning}" in text


# --- errors that nobody planned ---


def broken() -> str:
    raise ValueError("a library changed\nits mind")


@pytest.mark.parametrize("line", ["doctor", "doctor --json"])
def test_unplanned_is_70_and_one_line(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """An error that nobody planned says what it was, in which command, and what to do; 1 is for bars."""
    monkeypatch.setattr(platform, "python_version", broken)
    done = run(*line.split())
    assert (done.exit_code, done.stdout) == (70, "")
    (said,) = done.stderr.splitlines()
    assert said.startswith("error: ValueError: a library changed, in `exporter doctor`")
    assert "--debug" in said


@pytest.mark.parametrize("error", [SystemExit(1), type("Panic", (BaseException,), {})("a library in Rust")])
def test_what_is_no_exception_is_unplanned_too(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """A library that ends the process, or panics, does not choose the exit code."""

    def stop() -> str:
        raise error

    monkeypatch.setattr(platform, "python_version", stop)
    done = run("doctor")
    assert (done.exit_code, len(done.stderr.splitlines())) == (70, 1)


@pytest.mark.parametrize("line", ["doctor --debug", "--debug doctor"])
def test_debug_shows_the_trace(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """`--debug` stands before the command or after it."""
    monkeypatch.setattr(platform, "python_version", broken)
    done = run(*line.split())
    assert done.exit_code == 70
    assert "Traceback (most recent call last)" in done.stderr
    assert "in this_machine" in done.stderr


def test_debug_shows_the_trace_of_a_planned_error(tmp_path: Path) -> None:
    """Of an error raised on purpose too; the line stays the last."""
    done = run("gate", tmp_path / "nowhere", "--debug")
    assert done.exit_code == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped command ends with 130, and says so in a line."""

    def stop() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(platform, "python_version", stop)
    done = run("doctor")
    assert (done.exit_code, len(done.stderr.splitlines())) == (130, 1)
    assert "stopped" in done.stderr


def test_worded() -> None:
    """A planned error is its own text; a path that was typed is the user's mistake, another the disk's."""
    assert worded(NoVerdict("noisy"), "gate") == ("noisy", 5)
    assert worded(FileNotFoundError(2, "No such file", "a"), "gate", typed=["gate", "a"])[1] == 2
    assert worded(NotADirectoryError(20, "Not a directory", "a"), "gate", typed=["a/b"])[1] == 2
    assert worded(FileNotFoundError(2, "No such file", "a/b"), "gate", typed=["gate", "a"])[1] == 3
    assert worded(PermissionError(13, "Permission denied", "a"), "gate", typed=["a"])[1] == 3
    assert worded(OSError(28, "No space left on device"), "gate") == ("No space left on device", 3)
    text, code = worded(Unplanned("ValueError: x"), "", None)
    assert code == 70
    assert text.startswith("ValueError: x, in exporter, which nobody planned for")


# --- streams ---


def test_reader_that_went_away(place: Path) -> None:
    """A closed pipe is no error: the command's own code stands."""
    done = shell(
        "$X doctor | head -0; echo ${PIPESTATUS[0]}; $X gate forged | head -0; echo ${PIPESTATUS[0]}",
        cwd=place,
    )
    assert done.stdout.split() == [b"0", b"4"]
    assert len(done.stderr.splitlines()) == 1  # gate's


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_full_stdout() -> None:
    """What cannot be written is said, with 3; a full stderr leaves the code alone."""
    for command in ("doctor", "--help", "--version", "schema"):
        done = shell(f"$X {command} >/dev/full")
        assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
        assert b"stdout cannot be written: No space left on device" in done.stderr
    assert shell("$X doctor 2>/dev/full").returncode == 0
    assert shell("$X gate nowhere 2>/dev/full").returncode == 2


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_verdict_outlives_a_full_stdout(verified: Path, tmp_path: Path) -> None:
    """A missed bar is 1, wherever the table goes."""
    (tmp_path / "bars.yaml").write_text("onnx-int8: {max_abs_diff: 1e-9}\n", encoding="utf-8")
    assert shell(f"$X gate {verified} --bars bars.yaml >/dev/full", cwd=tmp_path).returncode == 1
    assert (
        shell(
            f"$X gate {verified} --bars bars.yaml | head -0; exit ${{PIPESTATUS[0]}}", cwd=tmp_path
        ).returncode
        == 1
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams(closed: str) -> None:
    """Closed streams change no exit code."""
    assert shell(f"$X doctor {closed}").returncode == 0
    assert shell(f"$X gate nowhere {closed}").returncode == 2


def test_closed_stdout_gives_its_number_to_no_file(place: Path) -> None:
    """What a library prints to stdout must not end up in the next file that is opened."""
    code = (
        "import os, sys; from exporter.__main__ import main; sys.argv[1:] = ['--version']\n"
        "try: main()\n"
        "finally: number = os.open('file', os.O_WRONLY); os.write(2, str(number > 2).encode())"
    )
    done = shell(f'{sys.executable} -c "{code}" >&-', cwd=place)
    assert done.stderr == b"True"


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["ascii", "C"],
)
def test_names_that_the_terminal_cannot_show(place: Path, environment: dict[str, str]) -> None:
    """A name in another script, or of bytes that are no text, is shown with escapes."""
    for name in ("模型", os.fsdecode(b"\xff\xfe")):
        done = shell(f'$X show "{name}"', cwd=place, **environment)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert b"no such artifact folder" in done.stderr


# --- surroundings ---


# A user without $HOME whom the system's list of users does not have.
NOBODY = (
    "import os, sys; os.environ.clear(); import pwd\n"
    "pwd.getpwuid = lambda number: (_ for _ in ()).throw(KeyError(number))\n"
    "from exporter.__main__ import main; main()"
)


def test_no_home(place: Path) -> None:
    """What needs no cache works for a user without a home; `doctor` says what to set."""
    for line, code in (("doctor", 0), ("doctor --json", 0), ("plan nowhere.yaml", 2), ("gate forged", 4)):
        done = shell(f"{sys.executable} -c '{NOBODY}' {line}", cwd=place)
        assert done.returncode == code, done.stderr
    assert b"set EXPORTER_CACHE" in shell(f"{sys.executable} -c '{NOBODY}' doctor", cwd=place).stdout


def test_no_home_for_the_cache(tiny: Path) -> None:
    """What needs the cache says that there is no place for it, and what to set."""
    done = shell(f"{sys.executable} -c '{NOBODY}' export recipe.yaml --out out", cwd=tiny)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith(
        b"error: no home folder to keep the cache in; set EXPORTER"
    )
    assert not (tiny / "out").exists()


def test_current_folder_that_is_gone(tmp_path: Path, built: Path) -> None:
    """A deleted working directory stops what needs it, in one line; the rest works."""
    (tmp_path / "gone").mkdir()
    works = f"$X doctor >/dev/null && $X show {built} >/dev/null"
    line = f"cd gone; rmdir ../gone; {works} && $X plan {built.parent.parent}/recipe.yaml"
    done = shell(line, cwd=tmp_path)
    assert done.returncode == 2
    assert b"the current folder is not there any more" in done.stderr.splitlines()[-1]


# --- JSON ---


def test_json_alone_on_stdout(verified: Path, tiny: Path, tmp_path: Path) -> None:
    """With `--json` stdout is one JSON text, whatever happens beside it."""
    for line in (
        f"show {verified}",
        f"gate {verified}",
        f"profile {verified}",
        f"plan {tiny}/recipe.yaml",
        "doctor",
    ):
        done = run(*line.split(), "--json")
        assert done.exit_code == 0
        json.loads(done.stdout)
    done = run("export", tiny / "recipe.yaml", "--out", tiny / "artifacts", "--build-only", "--json")
    assert json.loads(done.stdout) == {"artifact": str(tiny / "artifacts/tiny")}
