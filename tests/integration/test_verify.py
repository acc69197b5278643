"""Real verification of the tiny model: measured against PyTorch, judged, stored, published."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from exporter import pipeline
from exporter.artifact.files import to_json
from exporter.artifact.manifest import read_manifest, write_manifest
from exporter.artifact.plans import Plans, read_plans, write_plans
from exporter.context import Context
from exporter.errors import BackendMissing, GateRefused, IntegrityError, RecipeError
from exporter.export.folder import reference
from exporter.machine import this_machine
from exporter.measure.settings import MeasureSettings
from exporter.measure.tune import with_plans
from exporter.pairs import load_pair_sets
from exporter.progress import Silent
from exporter.publish.folder import Publication
from exporter.publish.signature import KeySigner, KeyVerifier, check_signature
from exporter.recipe.load import load_recipe
from exporter.recipe.schema import Bars, Recipe
from exporter.report.read import read_report
from exporter.runtime import Reranker
from tests.conftest import STARTED_AT


@pytest.fixture
def copy(verified: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(verified, tmp_path / "tiny"))


def test_report_measures_both_sides(verified: Path) -> None:
    """The report holds raw runs of the reference, default and tuned, and of every variant."""
    report = read_report(verified, read_manifest(verified))
    sides = [report.reference.default, report.reference.tuned, *(row.throughput for row in report.variants)]
    assert [side.side for side in sides] == ["torch default", "torch tuned", "onnx", "onnx-int8"]
    assert [len(side.runs) for side in sides] == [1, 2, 1, 1]  # no bar on a speed
    if this_machine().has_bf16:
        assert report.reference.bfloat16 is not None
        assert report.reference.bf16_difference is not None
        sides.append(report.reference.bfloat16)
        assert (sides[-1].side, len(sides[-1].runs)) == ("torch bfloat16", 1)
        assert 0 < report.reference.bf16_difference.max_abs_diff < 0.5
        assert all(row.speedup_bf16 for row in report.variants)
    else:
        assert report.reference.bfloat16 is None
        assert all(row.speedup_bf16 is None for row in report.variants)
    assert all(seconds > 0 for side in sides for run in side.runs for seconds in run.seconds)
    # The runtime cuts texts into the reference's tokens.
    assert len({side.runs[0].n_tokens for side in sides}) == 1
    assert all(side.peak_rss_bytes > 1e6 and side.load_s > 0 and side.cpu_share > 0 for side in sides)
    assert report.verdict == "pass"
    exact = report.variants[0]
    found = exact.fidelity
    assert found.parity.n_nonfinite == 0
    assert found.parity.max_abs_diff < 1e-5
    assert found.parity.kendall_tau.value == pytest.approx(1.0)
    assert found.quality is not None
    assert found.quality.ndcg_retained.value == 1.0
    assert found.batches.max_delta < 1e-5
    assert found.repeat_diff == 0.0
    assert found.contents.int8_share == found.contents.fp16_share == 0.0
    assert found.saturation is None
    assert [bucket.name for bucket in found.lengths] == ["1 to 64", "truncated"]
    assert sum(bucket.n_pairs for bucket in found.lengths) == report.pairs.n_pairs
    assert {speed.name for speed in exact.length_speeds} == {"1 to 64", "truncated"}
    int8 = report.variants[1].fidelity
    assert 1e-4 < int8.batches.max_delta < 0.5  # a batch's activations share one range
    assert int8.contents.int8_share > 0.8  # of two layers; the absorbed weights of the last are fp32
    assert int8.saturation is not None
    assert int8.saturation.proven
    assert int8.saturation.unsaturated_diff is not None
    assert int8.saturation.unsaturated_diff < 1e-6


def test_report_holds_the_utilisation_against_the_machine(verified: Path) -> None:
    """Peaks are measured in the same run; a model this tiny reaches little of them, and never all."""
    found = {row.kind: row.utilization for row in read_report(verified, read_manifest(verified)).variants}
    assert {kind: row and row.peak_dtype for kind, row in found.items()} == {
        "onnx": "float32",
        "onnx-int8": "int8",
    }
    assert all(row and 0 < row.share_of_peak < 1 and row.peak_flops_per_s > 1e9 for row in found.values())


def test_plans_are_measured_once_for_a_class_of_machines(copy: Path) -> None:
    """What was measured here is not measured again, what was measured elsewhere stays.

    No hash of the manifest moves.
    """
    before, manifest = (copy / "manifest.json").read_bytes(), read_manifest(copy)
    plans, machine = read_plans(copy, manifest), this_machine()
    kinds = [entry.kind for entry in manifest.variants]
    pair_set, _ = load_pair_sets(Recipe.model_validate_json(manifest.recipe))
    assert list(plans.plans) == kinds
    assert all(len(measured) == 1 and measured[0].sweep for measured in plans.plans.values())

    def again(plans: Plans, folder: Path) -> Plans:
        return with_plans(
            plans,
            kinds,
            folder,
            pair_set,
            machine=machine,
            settings=MeasureSettings(token_budgets=(64, 128)),
            progress=Silent(),
        )

    assert again(plans, copy / "nowhere") == plans  # nothing is opened
    elsewhere = replace(plans.of(kinds[0])[0], isa="arm64")
    found = again(replace(plans, plans=dict.fromkeys(kinds, (elsewhere,))), copy)
    assert [measured[0] for measured in found.plans.values()] == [elsewhere] * len(kinds)
    assert {(new.isa, new.n_cores) for _, new in found.plans.values()} == {(machine.isa, machine.n_cores)}
    write_plans(found, copy)
    assert (copy / "manifest.json").read_bytes() == before
    with pytest.raises(IntegrityError, match="was measured with other plans"):
        pipeline.gate(copy)


def test_second_export_reuses_artifact_and_report(verified: Path) -> None:
    """With nothing changed the stored report comes back, timestamp and all."""
    manifest = read_manifest(verified)
    recipe = Recipe.model_validate_json(manifest.recipe)
    report = pipeline.export(recipe, verified.parent, Context(started_at="2030-01-01T00:00:00Z"))
    assert report.started_at == "2026-01-01T00:00:00Z"


def test_gate_rejudges_without_a_model(copy: Path) -> None:
    """Other bars give another verdict from the same stored numbers, and nothing is written."""
    before = (copy / "report.json").read_bytes()
    strict = {"onnx-int8": Bars(max_abs_diff=1e-9), "onnx": Bars(max_abs_diff=1e-3)}
    report = pipeline.gate(copy, strict).newest
    assert {row.kind: row.verdict for row in report.variants} == {"onnx": "pass", "onnx-int8": "fail"}
    assert report.verdict == "fail"
    assert pipeline.gate(copy).verdict == "pass"
    assert (copy / "report.json").read_bytes() == before


def test_report_of_other_files_is_refused(copy: Path, built: Path) -> None:
    """A report put beside other files than it measured is refused, and so is a changed one."""
    shutil.copyfile(built / "manifest.json", copy / "manifest.json")
    for path in built.rglob("*"):
        if path.is_file():
            (copy / path.relative_to(built)).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, copy / path.relative_to(built))
    with pytest.raises(IntegrityError, match="is about other files"):
        pipeline.gate(copy)
    data = json.loads((copy / "report.json").read_text(encoding="utf-8"))
    (copy / "report.json").write_text(json.dumps({**data, "verdict": "pass"}), encoding="utf-8")
    with pytest.raises(IntegrityError, match="changed since it was written"):
        pipeline.gate(copy)


def publish(folder: Path, dest: Path, **how: Any) -> tuple[str, ...]:
    """Publish to a folder, and return the kinds left behind."""
    return pipeline.publish(folder, str(dest), Context(started_at=STARTED_AT), Publication(**how)).left


def test_published_copy_runs_and_failed_variant_stays_behind(copy: Path, tmp_path: Path) -> None:
    """What passed is copied and scores the same; what failed is left out of files, manifest and report."""
    manifest = read_manifest(copy)
    recipe = json.loads(manifest.recipe)
    assert publish(copy, tmp_path / "all") == ()
    recipe["variants"][1]["bars"] = {"max_abs_diff": 1e-9}
    write_manifest(replace(manifest, recipe=json.dumps(recipe)), copy)
    assert publish(copy, tmp_path / "passed") == ("onnx-int8",)
    assert not list((tmp_path / "passed").rglob("*int8*"))
    assert [row.kind for row in pipeline.gate(tmp_path / "passed").newest.variants] == ["onnx"]
    pairs = [("wing lift", "drag of a wing"), ("heat", "shock layer heat transfer")]
    assert (Reranker.load(tmp_path / "passed").score(pairs) == Reranker.load(copy, "onnx").score(pairs)).all()
    with pytest.raises(RecipeError, match="holds another artifact"):
        publish(copy, tmp_path / "all")
    recipe["variants"][0]["bars"] = {"max_size_ratio": 1e-9}
    write_manifest(replace(manifest, recipe=json.dumps(recipe)), copy)
    with pytest.raises(GateRefused, match="nothing is published"):
        publish(copy, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(RecipeError, match="lies in the artifact"):
        publish(copy, copy / "inside")


def test_recipe_demands_a_signature(copy: Path, tmp_path: Path) -> None:
    """Where the recipe says so nothing is published unsigned.

    Signed, it is checked by its public key, and broken by a byte.
    """
    manifest = read_manifest(copy)
    write_manifest(
        replace(manifest, recipe=json.dumps({**json.loads(manifest.recipe), "publish": {"signed": True}})),
        copy,
    )
    with pytest.raises(RecipeError, match="demands a signature"):
        publish(copy, tmp_path / "out")
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    key = ec.generate_private_key(ec.SECP256R1())
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    publish(copy, tmp_path / "out", signer=KeySigner(private))
    assert "onnx/model.onnx" in check_signature(tmp_path / "out", KeyVerifier(public)).files
    report = tmp_path / "out/report.md"
    report.write_text(report.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(IntegrityError, match="report.md"):
        check_signature(tmp_path / "out", KeyVerifier(public))


def test_cuda_reference_says_what_is_missing() -> None:
    """Asking for a GPU where torch sees none is one line that says what to do."""
    import torch

    from exporter.measure.reference import device_for

    if torch.cuda.is_available():
        assert device_for("cuda") == device_for("auto") == "cuda"
    else:
        with pytest.raises(BackendMissing, match="sees no CUDA device; use"):
            device_for("cuda")
        assert device_for("auto") == "cpu"


def test_reference_is_an_ordinary_folder(tiny: Path, tmp_path: Path) -> None:
    """`exporter reference` writes a folder that sentence-transformers loads, and a model source again."""
    model = load_recipe(tiny / "recipe.yaml").model
    reference(model, tmp_path / "reference", Context())
    from sentence_transformers import CrossEncoder

    pairs = [["wing lift", "drag of a wing"]]
    loaded = CrossEncoder(str(tmp_path / "reference"), device="cpu").predict(pairs)
    assert loaded == CrossEncoder(str(tiny / "model"), device="cpu").predict(pairs)
    with pytest.raises(RecipeError, match="already exists"):
        reference(model, tmp_path / "reference", Context())


def test_json_report_is_strict_json(verified: Path) -> None:
    """`--json` gives JSON any parser reads: no NaN, no infinity."""
    report = read_report(verified, read_manifest(verified))
    json.loads(to_json(report), parse_constant=pytest.fail)


def test_openvino_starts_on_two_threads_at_once(built: Path) -> None:
    """First calls of two threads do not wait for each other for good, as OpenVINO's bindings would."""
    script = (
        "import sys; sys.setswitchinterval(1e-6)\n"
        "from exporter.runtime import Plan, Reranker\n"
        "reranker = Reranker.load(sys.argv[1], 'openvino', plan=Plan(2, 1, 8))\n"
        "print(len(reranker.score([('wing lift', 'drag of a wing')] * 4)))\n"
    )
    for _ in range(4):  # unmended it hangs in two of five processes
        done = subprocess.run(
            [sys.executable, "-c", script, str(built)], capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout == "4\n"


CUT = """
import contextlib, os, sys, threading
from pathlib import Path
from exporter import pipeline
from exporter.context import Context
from tests.conftest import SHORT  # what the session's cache was filled with
class Cut:
    @contextlib.contextmanager
    def stage(self, name, total=None):
        if name == sys.argv[2]:
            threading.Timer(1.0, os.kill, (os.getpid(), int(sys.argv[3]))).start()
        yield lambda n: None
    def note(self, text): pass
pipeline.verify(Path(sys.argv[1]), Context(progress=Cut()), SHORT)
"""


@pytest.mark.parametrize(
    ("stage", "how"),  # every second of the ten there are, for time's sake
    [
        ("torch: sweep", signal.SIGKILL),
        ("torch: reference scores", signal.SIGINT),
        ("onnx: scores", signal.SIGKILL),
        ("speed: rounds", signal.SIGINT),
        ("latency and lengths", signal.SIGKILL),
    ],
)
def test_cut_off_while_verifying_keeps_the_old_report(
    copy: Path, tmp_path: Path, stage: str, how: signal.Signals
) -> None:
    """Killed or interrupted in any stage, artifact and report are what they were, and no worker lives on."""
    before = (copy / "report.json").read_bytes()
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    if stage.startswith("torch"):  # what the session's cache would skip
        environment["EXPORTER_CACHE"] = str(tmp_path / "cache")
    command = [sys.executable, "-c", CUT, str(copy), stage, str(int(how))]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode != 0
    assert (copy / "report.json").read_bytes() == before
    assert pipeline.gate(copy).verdict == "pass"
    if how == signal.SIGINT:
        assert not list(tmp_path.glob("exporter-job-*"))
    for _ in range(100):
        if not (
            alive := [
                p
                for p in psutil.process_iter(["cmdline"])
                if str(tmp_path) in " ".join(p.info["cmdline"] or ())
            ]
        ):
            break
        time.sleep(0.1)
    assert alive == []


@pytest.mark.parametrize("variable", ["EXPORTER_CACHE", "TMPDIR"])
def test_full_disk_while_verifying_is_one_line(copy: Path, tmp_path: Path, variable: str) -> None:
    """Where the cache or the workers' files do not fit, the error names the full folder.

    The old report stays.
    """
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", small], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    before = (copy / "report.json").read_bytes()
    try:
        command = [sys.executable, "-m", "exporter", "verify", str(copy)]
        environment = {**os.environ, "EXPORTER_CACHE": str(tmp_path / "cache"), variable: str(small)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (3, "")
        last = done.stderr.splitlines()[-1]
        assert last.startswith("error: ")
        assert "No space left on device" in last
        assert str(small) in last
        assert not [
            path.name for path in small.iterdir() if path.name.startswith((".", "exporter-job-"))
        ]  # none half-written
    finally:
        subprocess.run(["umount", small], check=True)
    assert (copy / "report.json").read_bytes() == before
