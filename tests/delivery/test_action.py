"""The action and the workflows in docs: their shape, and their steps run as a runner runs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.delivery.runner import ACTION, ROOT, Ran, environment, run
from tests.support import write_recipe

PAGE = (ROOT / "docs/how-to/gate-in-ci.md").read_text(encoding="utf-8")
WORKFLOWS = {
    flow["name"]: flow
    for flow in map(YAML(typ="safe").load, re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
}
JOBS = {name: next(iter(flow["jobs"].values())) for name, flow in WORKFLOWS.items()}
OWN = ("OWNER/exporter@REF", "./")
# The least that each workflow's job does with.
PERMISSIONS = {
    "reranker": {"contents": "read", "actions": "read", "pull-requests": "write"},
    "recipes": {"contents": "read", "actions": "read", "pull-requests": "write"},
    "release": {"contents": "read", "packages": "write", "id-token": "write"},
}


def inputs_of(workflow: str) -> dict[str, str]:
    """Return what a workflow in docs gives to the action."""
    (step,) = (step for step in JOBS[workflow]["steps"] if step.get("uses") in OWN)
    return step["with"]


def steps() -> list[dict[str, Any]]:
    return [*ACTION["runs"]["steps"], *(step for job in JOBS.values() for step in job["steps"])]


def test_workflows_ask_for_no_more_than_they_need() -> None:
    """Nothing is allowed but by job, and there what the page says and no more."""
    assert all(flow["permissions"] == {} for flow in WORKFLOWS.values())
    assert {name: job["permissions"] for name, job in JOBS.items()} == PERMISSIONS


def test_events() -> None:
    """Pushes and pull requests are gated, tags released; no stranger's text meets a token that may write."""
    assert {name: list(flow["on"]) for name, flow in WORKFLOWS.items()} == {
        "reranker": ["push", "pull_request"],
        "recipes": ["push", "pull_request"],
        "release": ["push"],
    }
    assert WORKFLOWS["release"]["on"]["push"] == {"tags": ["v*"]}


def test_every_action_is_pinned_by_commit() -> None:
    """What others publish is named by commit, with its version beside it; the action as its user chose."""
    for text in ((ROOT / "action.yml").read_text(encoding="utf-8"), PAGE):
        for line in re.findall(r"^ *(?:- )?uses: (.*)$", text, re.MULTILINE):
            assert line in OWN or re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_no_expression_in_a_script() -> None:
    """Values reach scripts by the environment: none becomes a part of one."""
    scripts = [step["run"] for step in steps() if "run" in step]
    scripts += [path.read_text(encoding="utf-8") for path in (ROOT / "action").glob("*.sh")]
    assert len(scripts) > 10
    assert not [script for script in scripts if "${{" in script]


def test_scripts_stop_at_an_error_and_evaluate_nothing() -> None:
    """Every script is strict, and none runs a text as a command."""
    for path in (ROOT / "action").glob("*.sh"):
        text = path.read_text(encoding="utf-8")
        assert os.access(path, os.X_OK)
        assert "\nset -euo pipefail\n" in text
        assert not re.search(r"\beval\b|\bsource\b|bash -c|\bsh -c", text)


def test_page_has_every_input() -> None:
    """The page explains each input, and the workflows give only what there is."""
    assert set(re.findall(r"^\| `([a-z-]+)`(?:, `([a-z-]+)`)? \|", PAGE, re.MULTILINE)) <= {
        (first, second) for first in ACTION["inputs"] for second in ("", *ACTION["inputs"])
    }
    assert all(f"`{name}`" in PAGE for name in {*ACTION["inputs"], *ACTION["outputs"]})
    assert all(set(inputs_of(name)) <= set(ACTION["inputs"]) for name in WORKFLOWS)


def test_the_job_for_gitlab_ends_with_the_gates_code(tmp_path: Path) -> None:
    """Its last step is run as a shell has it: a wrong recipe is exit code 2, and no other is tried again."""
    (text,) = re.findall(r"```yml\n(.*?)```", PAGE, re.DOTALL)
    job = YAML(typ="safe").load(text)["reranker"]
    assert job["retry"] == {"max": 1, "exit_codes": [5]}
    assert job["artifacts"]["reports"]["junit"] == "artifacts/*/report.xml"
    script = tmp_path / "exporter"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m exporter "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    (tmp_path / "reranker.yaml").write_text("name: wrong\n", encoding="utf-8")
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    *_, last = job["script"]
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", last], cwd=tmp_path, env=path, check=False)
    assert done.returncode == 2
    install = subprocess.run(["bash", "-n", "-c", "\n".join(job["script"])], cwd=tmp_path, check=False)
    assert install.returncode == 0


# `export` of a recipe that was measured before, judged for real; all else is the command itself.
EXPORTER = """\
#!{python}
import os, shutil, sys
argv, bars = sys.argv[1:], os.environ["BARS"]
with open(os.environ["CALLS"], "a") as calls:
    calls.write(" ".join(argv) + "\\n")
if argv[0] == "export" and argv[-1] == "reranker.yaml":
    folder = argv[argv.index("--out") + 1] + "/tiny"
    shutil.copytree(os.environ["VERIFIED"], folder)
    argv = ["gate", folder, "--bars", bars]
elif argv[0] == "verify":
    argv = ["gate", argv[-1], "--bars", bars]
elif argv[0] == "compare" and "COMPARED" in os.environ:
    open(argv[argv.index("--to") + 1], "w").write("# Compared\\n")
    sys.exit(int(os.environ["COMPARED"]))
elif argv[0] == "publish":
    sys.exit(0)
os.execv(sys.executable, [sys.executable, "-m", "exporter", *argv])
"""
GH = """\
#!/usr/bin/env bash
words=$*
echo "$words" >>"$CALLS.gh"
[ -z "${GH_FAILS:-}" ] || { echo "gh: HTTP 403" >&2; exit 1; }
case "$words" in
    *--paginate*) echo "${COMMENTS:-}" ;;
    *body=@*) cp "${words##*body=@}" "$CALLS.body" ;;
    "run list"*) echo "${RUN_ID:-}" ;;
    "run download"*) cp "$VERIFIED/report.json" "${words##*--dir }/" ;;
esac
"""
PULL_REQUEST = {"event.pull_request.number": "7", "event.pull_request.head.repo.full_name": "org/repo"}
FORK = {"event.pull_request.number": "7", "event.pull_request.head.repo.full_name": "stranger/repo"}
PASS = "onnx: {min_kendall_tau: 0.3}\nonnx-int8: {min_kendall_tau: 0.3}\n"
FAIL = "onnx: {min_kendall_tau: 0.3}\nonnx-int8: {max_abs_diff: 1e-12}\n"
INVALID = "onnx: {min_kendall_tau: 0.3}\nonnx-int8: {min_ndcg_retained: 0.999}\n"


class Checkout:
    """A repository that holds a recipe, and a runner for it."""

    def __init__(self, folder: Path, verified: Path) -> None:
        self.folder, self.calls = folder, folder / "calls"
        programs = folder / "programs"
        programs.mkdir()
        self.exporter = programs / "exporter"
        self.exporter.write_text(EXPORTER.format(python=sys.executable), encoding="utf-8")
        (programs / "gh").write_text(GH, encoding="utf-8")
        for program in programs.iterdir():
            program.chmod(0o755)
        write_recipe(folder, "onnx", "onnx-int8", file="reranker.yaml")
        self.env = environment(
            programs,
            VERIFIED=str(verified),
            CALLS=str(self.calls),
            BARS=str(folder / "bars.yaml"),
            PYTHONPATH=str(ROOT),
            GITHUB_REPOSITORY="org/repo",
            GITHUB_SERVER_URL="https://github.com",
            GITHUB_WORKFLOW_REF="org/repo/.github/workflows/reranker.yaml@refs/heads/main",
        )

    def run(
        self,
        event: str,
        bars: str = PASS,
        *,
        workflow: str = "reranker",
        inputs: dict[str, str] | None = None,
        github: dict[str, str] | None = None,
        **env: str,
    ) -> Ran:
        """Run the action as a workflow of the page does."""
        (self.folder / "bars.yaml").write_text(bars, encoding="utf-8")
        given = {**inputs_of(workflow), **(inputs or {})}
        return run(
            self.folder,
            {name: value.replace("${{ github.ref_name }}", "v1") for name, value in given.items()},
            {**self.env, "GITHUB_EVENT_NAME": event, **env},
            {"token": "a-token", **(github or {})},
            {
                "python": {"python-path": sys.executable, "python-version": "3.11.0"},
                "install": {"exporter": str(self.exporter)},
            },
        )

    def called(self, suffix: str = "") -> list[str]:
        """Return the commands that ran, of `exporter` or with `.gh` of `gh`."""
        path = Path(f"{self.calls}{suffix}")
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


@pytest.fixture
def checkout(tmp_path: Path, verified: Path) -> Checkout:
    return Checkout(tmp_path, verified)


def test_push_that_passes(checkout: Checkout) -> None:
    """A push to main is gated, compared and uploaded; there is no pull request to write to."""
    ran = checkout.run("push", RUN_ID="12")
    assert ran.code == 0, ran.log
    assert [ran.output(name) for name in ("verdict", "exit-code")] == ["pass", "0"]
    assert (Path(ran.output("artifact")) / "manifest.json").is_file()
    assert ran.summary.startswith("# tiny")
    assert [call.split()[0] for call in checkout.called()] == ["export", "compare"]
    assert [call for call in checkout.called(".gh") if call.startswith("api")] == []
    assert "--event push" in checkout.called(".gh")[0]
    (cache, upload) = ran.uses
    assert cache["key"].startswith("exporter-Linux-X64-3.11.0-")
    assert {"report.json", "report.md", "report.xml", "report.html"} <= {
        path.name for path in Path(upload["path"]).iterdir()
    }


def test_first_push_has_nothing_to_compare_with(checkout: Checkout) -> None:
    """Without an earlier report the gate decides alone, and a line says so."""
    ran = checkout.run("push")
    assert ran.code == 0, ran.log
    assert "nothing is compared" in ran.log
    assert [call.split()[0] for call in checkout.called()] == ["export"]


def test_pull_request_that_fails(checkout: Checkout) -> None:
    """A missed bar ends with 1, after comment and upload; nothing is tried again."""
    ran = checkout.run("pull_request", FAIL, github=PULL_REQUEST)
    assert (ran.code, ran.output("verdict")) == (1, "fail"), ran.log
    assert [call.split()[0] for call in checkout.called()] == ["export"]
    posts = [call for call in checkout.called(".gh") if "POST" in call]
    assert len(posts) == 1
    assert "repos/org/repo/issues/7/comments" in posts[0]
    body = Path(f"{checkout.calls}.body").read_text(encoding="utf-8")
    assert body.startswith("<!-- exporter ")
    assert "max_abs_diff" in body
    assert [one["uses"] for one in ran.uses] == ["actions/cache", "actions/upload-artifact"]


def test_comment_is_kept_up_to_date(checkout: Checkout) -> None:
    """The comment of an earlier run is changed, no second one written."""
    ran = checkout.run("pull_request", github=PULL_REQUEST, COMMENTS="31")
    assert ran.code == 0, ran.log
    assert any("PATCH repos/org/repo/issues/comments/31" in call for call in checkout.called(".gh"))
    assert not any("POST" in call for call in checkout.called(".gh"))


def test_comment_that_may_not_be_written_fails_nothing(checkout: Checkout) -> None:
    """A token that may only read leaves the summary, and a passing job passes."""
    ran = checkout.run("pull_request", github=PULL_REQUEST, GH_FAILS="1")
    assert ran.code == 0, ran.log
    assert "could not be written" in ran.log
    assert ran.summary.startswith("# tiny")


@pytest.mark.parametrize(("bars", "code"), [(PASS, 0), (FAIL, 1)])
def test_fork(checkout: Checkout, bars: str, code: int) -> None:
    """A fork is gated with the same exit code, and gets the summary only."""
    ran = checkout.run("pull_request", bars, github=FORK)
    assert ran.code == code, ran.log
    assert ran.summary.startswith("# tiny")
    assert [call for call in checkout.called(".gh") if call.startswith("api")] == []


def test_no_verdict_is_measured_once_more(checkout: Checkout) -> None:
    """An invalid measurement is made again, once, and ends with 5 if it stays so."""
    ran = checkout.run("push", INVALID)
    assert (ran.code, ran.output("verdict")) == (5, "invalid"), ran.log
    assert [call.split()[0] for call in checkout.called()] == ["export", "verify"]


def test_recipe_that_is_wrong(checkout: Checkout) -> None:
    """A broken recipe ends with 2; the summary has its line as text, whatever it holds."""
    path = checkout.folder / "broken.yaml"
    path.write_text("name: '<img src=x>@everyone'\nvariants: 1\n", encoding="utf-8")
    ran = checkout.run("pull_request", inputs={"recipe": "broken.yaml"}, github=FORK)
    assert (ran.code, ran.output("verdict"), ran.output("artifact")) == (2, "error", ""), ran.log
    assert "<pre>" in ran.summary
    assert "<img" not in ran.summary
    assert [one["uses"] for one in ran.uses] == ["actions/cache"]


@pytest.mark.parametrize(
    ("bars", "compared", "code"),
    [(PASS, "1", 1), (PASS, "5", 0), (PASS, "4", 4), (FAIL, "5", 1), (FAIL, "4", 1), (INVALID, "1", 1)],
)
def test_comparison_counts(checkout: Checkout, bars: str, compared: str, code: int) -> None:
    """What got worse fails; nothing to compare leaves the gate's code; a failed bar stays one."""
    shutil.copytree(checkout.env["VERIFIED"], checkout.folder / "old")
    ran = checkout.run("push", bars, inputs={"baseline": "old", "baseline-branch": ""}, COMPARED=compared)
    assert ran.code == code, ran.log
    assert "# Compared" in ran.summary


def test_baseline_that_is_not_there(checkout: Checkout) -> None:
    """A baseline that was named and is not there is an error, not a gate without a comparison."""
    ran = checkout.run("push", inputs={"baseline": "./gone", "baseline-branch": ""})
    assert ran.code == 2, ran.log


@pytest.mark.parametrize(
    ("event", "bars", "published"), [("push", PASS, 1), ("push", FAIL, 0), ("pull_request", PASS, 0)]
)
def test_release(checkout: Checkout, event: str, bars: str, published: int) -> None:
    """What passed is published and signed, on a tag; never what failed, never from a pull request."""
    ran = checkout.run(event, bars, workflow="release", github=PULL_REQUEST)
    calls = [call.split() for call in checkout.called() if call.startswith("publish")]
    assert len(calls) == published, ran.log
    for call in calls:
        assert "--sigstore" in call
        assert call[-2:] == [ran.output("artifact"), "oci://ghcr.io/owner/my-reranker:v1"]
        assert "https://github.com/org/repo/.github/workflows/reranker.yaml@refs/heads/main" in call
    assert not [one for one in ran.uses if one["uses"] == "actions/cache"]


def test_pull_request_target_is_refused(checkout: Checkout) -> None:
    """The event that would give a stranger's recipe the repository's secrets stops before the set-up."""
    ran = checkout.run("pull_request_target", github=FORK)
    assert ran.code == 2
    assert "use pull_request" in ran.log
    assert checkout.called() == []


HOSTILE = "$(touch pwned) `touch pwned` ; touch pwned #\" '"


def test_hostile_text_stays_text(checkout: Checkout) -> None:
    """Inputs and names of a pull request are words to a command, never a command."""
    ran = checkout.run(
        "pull_request",
        inputs={"args": HOSTILE, "baseline-branch": HOSTILE, "report-name": HOSTILE},
        github={**PULL_REQUEST, "event.pull_request.head.repo.full_name": HOSTILE},
    )
    assert ran.code == 0, ran.log
    assert not list(checkout.folder.rglob("pwned"))
    assert checkout.called()[0].startswith(f"export {HOSTILE.partition(' ')[0]}")


def test_recipe_that_is_not_there(checkout: Checkout) -> None:
    """A recipe that is not in the checkout is named before anything is installed."""
    ran = checkout.run("push", inputs={"recipe": HOSTILE})
    assert ran.code == 2
    assert "actions/checkout" in ran.log
    assert not list(checkout.folder.rglob("pwned"))
