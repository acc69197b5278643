"""Preparing peers: what each is made from, and those that cannot be prepared."""

from __future__ import annotations

from pathlib import Path

from exporter.cache import Cache
from exporter.context import Context
from exporter.export.source import find_source
from exporter.libraries.peers import Peer, prepare_peers
from exporter.recipe.load import load_recipe
from tests.watched import Watched


def copies_config(reference: Path, into: Path) -> None:
    (into / "config.json").write_bytes((reference / "config.json").read_bytes())


def fails(_reference: Path, _into: Path) -> None:
    raise ValueError("no such operator\nand more")


def a_peer(package: str, prepare=copies_config) -> Peer:
    return Peer(
        package, "https://example.org", 1, prepare, lambda _folder: lambda pairs, _batch: [0.0] * len(pairs)
    )


def test_peers_that_cannot_be_prepared(tiny: Path, tmp_path: Path) -> None:
    """A peer that is not installed, or fails, is named with the reason; every peer is a step."""
    peers = {
        "absent": a_peer("no-such-package"),
        "broken": a_peer("numpy", fails),
        "good": a_peer("numpy"),
    }
    progress = Watched()
    context = Context(progress, Cache(tmp_path))
    source = find_source(load_recipe(tiny / "recipe.yaml").model, context.cache)
    folders, failed = prepare_peers(source, peers, context)
    assert failed == [
        ("absent", "no-such-package is not installed, see requirements-peers.lock"),
        ("broken", "it cannot be prepared: ValueError: no such operator"),
    ]
    assert list(folders) == ["good"]
    assert (folders["good"] / "config.json").is_file()
    assert progress.stages["peers: prepare"] == [1, 2, 3]
