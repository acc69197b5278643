"""Workers on a Ray cluster: an actor a core, each of which loads the artifact once.

The artifact travels to a node once, as an object of Ray's, and is unpacked into the cache there, by its root.
Ray does not restart an actor: on a full cluster the restart of one whose node died never finds a core. Its
part is given to another one, and so is a part that takes far longer than others: Ray declares a node dead
only after its heartbeats have stopped for a while.
Source: https://docs.ray.io/en/latest/ray-core/fault_tolerance/actors.html
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from exporter.artifact.files import MANIFEST, PLANS, from_json, to_json
from exporter.artifact.manifest import read_manifest
from exporter.backend import backend
from exporter.cache import Cache
from exporter.errors import BackendError, RecipeError
from exporter.jobs.body import Body, Order
from exporter.jobs.job import Part
from exporter.jobs.processes import ONE_THREAD, Answer, Failure, event_of
from exporter.jobs.schedule import Ended
from exporter.packages import missing
from exporter.remote.source import needed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from exporter.jobs.run import CrewOf
    from exporter.jobs.schedule import Event

# The variables by which a driver asks Ray not to report its use to Ray's makers.
# Source: https://docs.ray.io/en/latest/cluster/usage-stats.html
_NO_USAGE = {"RAY_USAGE_STATS_ENABLED": "0"}
_MAX_REASON = 200


class Seat:
    """The actor: a body in a process of its own. What it is told and answers is JSON, as for processes."""

    def __init__(self, order: bytes, packed: Mapping[str, bytes]) -> None:
        """Load the artifact; what goes wrong, `ready` says."""
        os.environ.update(ONE_THREAD)
        self._body: Body | None = None
        try:
            read = from_json(Order, order)
            self._body = Body(read, unpacked(packed, read.root))
            self._ready = Answer("ready", maker=self._body.maker)
        except Exception as error:  # noqa: BLE001 - worded, whatever it is, by whoever reads
            self._ready = Answer("failed", failure=Failure.of(error))

    def ready(self) -> bytes:
        """Return whether the artifact is loaded."""
        return to_json(self._ready)

    def score(self, part: bytes) -> bytes:
        """Score a part."""
        assert self._body is not None
        try:
            return to_json(Answer("done", done=self._body.score(from_json(Part, part), lambda _n: None)))
        except Exception as error:  # noqa: BLE001 - see above
            return to_json(Answer("failed", failure=Failure.of(error)))


def packed_artifact(folder: Path, kind: str) -> dict[str, bytes]:
    """Return the files of an artifact that running one variant needs, by name."""
    names = {MANIFEST, *needed(read_manifest(folder), folder, kind)}
    names |= {PLANS} if (folder / PLANS).is_file() else set()
    return {name: (folder / name).read_bytes() for name in sorted(names)}


def unpacked(packed: Mapping[str, bytes], root: str) -> Path:
    """Return the artifact's folder on this node: in the cache, written by the first who asks.

    What is in it is held against the manifest by whoever loads it, and the manifest against the root.
    """

    def make(scratch: Path) -> None:
        for name, content in packed.items():
            path = scratch / "artifact" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    found, _ = Cache.of_user().get("scored", {"root": root, "files": sorted(packed)}, make)
    return found / "artifact"


class _Actor:
    """A worker as the schedule knows it."""

    def __init__(self, name: str, crew: RayCrew) -> None:
        self.name, self._crew = name, crew
        self.handle: Any = None  # Ray's own class

    def give(self, part: Part) -> None:
        """See `Worker`."""
        self._crew.ask(self, self.handle.score.remote(to_json(part)))

    def stop(self) -> None:
        """See `Worker`."""
        self._crew.dismiss(self)


class RayCrew:
    """Actors of a cluster that this process is connected to."""

    doubles = True

    def __init__(self, order: Order, folder: Path, size: int) -> None:
        """Put the artifact where every node can get it.

        Args:
            order: what each is told first.
            folder: the artifact.
            size: how many actors there are, of a core each.
        """
        import ray

        self.size = size
        self._ray = ray
        self._class = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(Seat)
        self._order = to_json(order)
        self._packed = ray.put(packed_artifact(folder, order.kind))
        self._asked: dict[Any, _Actor] = {}
        self._n_hired = 0

    def hire(self) -> _Actor:
        """See `Crew`; where no core is free, it waits for one."""
        self._n_hired += 1
        actor = _Actor(f"actor {self._n_hired}", self)
        actor.handle = self._class.remote(self._order, self._packed)
        self.ask(actor, actor.handle.ready.remote())
        return actor

    def ask(self, actor: _Actor, reference: Any) -> None:
        """Wait for an answer too."""
        self._asked[reference] = actor

    def dismiss(self, actor: _Actor) -> None:
        """End an actor, and wait for no answer of its."""
        self._asked = {reference: one for reference, one in self._asked.items() if one is not actor}
        with backend("ray"):
            self._ray.kill(actor.handle)

    def events(self, timeout_s: float) -> Sequence[tuple[_Actor, Event]]:
        """See `Crew`."""
        if not self._asked:
            return []
        with backend("ray"):
            ready, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=timeout_s)
            if ready:
                ready, _ = self._ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        return [(actor := self._asked.pop(reference), self._event(actor, reference)) for reference in ready]

    def _event(self, actor: _Actor, reference: Any) -> Event:
        try:
            return event_of(self._ray.get(reference))
        except self._ray.exceptions.RayError as error:
            self.dismiss(actor)  # one that cannot be reached may live, and keep a core
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            # Of what a function raised, the last line names it; of an actor's end, the first.
            raised = isinstance(error, self._ray.exceptions.RayTaskError)
            said = (lines or [type(error).__name__])[-1 if raised else 0]
            return Ended(said.partition(". ")[0].rstrip(".")[:_MAX_REASON])


def cluster(address: str, workers: int | None = None) -> CrewOf:
    """Return what starts actors on a Ray cluster.

    Args:
        address: `HOST:PORT` of its head, or `auto` where this is one of its nodes.
        workers: how many actors, by default one a core of the cluster.

    Raises:
        BackendMissing: ray is not installed.
        RecipeError: the address is no such thing.
    """
    try:
        import ray
    except ImportError as error:
        raise missing(error, what="--ray") from None
    if "://" in address or not address:
        raise RecipeError(f"--ray {address!r}: wanted HOST:PORT of the cluster's head, or auto")

    @contextmanager
    def crew(order: Order, folder: Path) -> Iterator[RayCrew]:
        with _connected(ray, address):
            n_cores = int(ray.cluster_resources().get("CPU", 0))
            if n_cores < 1:
                raise BackendError(f"--ray {address}: the cluster has no cores")
            yield RayCrew(order, folder, min(workers or n_cores, n_cores))

    return crew


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """Be connected to a cluster; one that this process is connected to already is left so."""
    if ray.is_initialized():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    os.environ.update({name: os.environ.get(name, value) for name, value in _NO_USAGE.items()})
    with backend(f"--ray {address}", "check the address, and that Ray has the same version there"):
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():  # Ray ends the process on its own
            signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()
