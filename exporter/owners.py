"""Whether somebody else could change a file while it is checked and used: by owners, modes, folders above.

A file is checked by its hash and then opened by an engine. Who can write it, or a folder on the way to it,
can put another in its place between the two. So it has to belong to this user or to root, and so have all
folders above it; and nobody else may write them, but in a folder with the sticky bit, such as /tmp, where
nobody can move what is others'. A group counts as nobody else if it has no other member: many systems give
every user a group of his own, and let it write.

Owners by number can mean little in a container: there, and for users and groups who work together,
`EXPORTER_TRUSTED_USERS` and `EXPORTER_TRUSTED_GROUPS` name whom else to trust; `*` is everybody, for a disk
that knows no modes, or a CI job that runs alone. Systems without such owners have nothing to check. Access
control lists show in a mode's bits for the group, and are no more looked at.
Source: https://git-scm.com/docs/git-config#Documentation/git-config.txt-safedirectory
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":
    import grp
    import pwd

USERS, GROUPS = "EXPORTER_TRUSTED_USERS", "EXPORTER_TRUSTED_GROUPS"
_ALL_IDS = "4294967295"
_OVERFLOW = Path("/proc/sys/kernel/overflowuid")


def folder_problem(folder: Path) -> str:
    """Return who else could change a folder or put another in its place, and what to type; empty for nobody.

    Args:
        folder: need not exist; those above it that do are looked at.
    """
    if _trusts_everybody():
        return ""
    here = folder.absolute()
    real = Path(os.path.realpath(here))
    ways = dict.fromkeys((here, real, *here.parents, *real.parents))
    return next(filter(None, (_folder(path, is_above=path not in (here, real)) for path in ways)), "")


def file_problem(path: Path) -> str:
    """Return who else could write a file, and what to type; empty for nobody.

    Args:
        path: in a folder that `folder_problem` was asked about, and that is not asked about again; where it
            is a link, the folder that it leads to is.
    """
    if _trusts_everybody():
        return ""
    try:
        found, is_link = path.stat(), path.is_symlink()
    except OSError:
        return ""
    problem = _entry(path, found)
    return problem or (folder_problem(Path(os.path.realpath(path)).parent) if is_link else "")


def _folder(path: Path, *, is_above: bool) -> str:
    try:
        found, itself = path.stat(), path.lstat()
    except OSError:
        return ""
    if itself.st_uid != found.st_uid and not _is_trusted(itself.st_uid, is_above=is_above):
        return _of_another(path, itself.st_uid)
    return _entry(path, found, is_above=is_above)


def _entry(path: Path, found: os.stat_result, *, is_above: bool = False) -> str:
    """Return who else could write what stands at a path; of a folder, without the sticky bit."""
    if not _is_trusted(found.st_uid, is_above=is_above):
        return _of_another(path, found.st_uid)
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:
        return ""
    named = shlex.quote(str(path))
    if found.st_mode & stat.S_IWOTH:
        return (
            f"{path} can be written by everybody; `chmod o-w {named}`, "
            f"or set {USERS}='*' where no other user is"
        )
    if found.st_mode & stat.S_IWGRP and not _is_alone(found.st_gid):
        return (
            f"{path} can be written by group {found.st_gid}; `chmod g-w {named}`, "
            f"or set {GROUPS}={found.st_gid} to trust its members"
        )
    return ""


def _of_another(path: Path, uid: int) -> str:
    return (
        f"{path} belongs to user {uid}, who could change it meanwhile; "
        f"make a copy of your own, or set {USERS}={uid} to trust that user"
    )


def _is_trusted(uid: int, *, is_above: bool) -> bool:
    if uid in (0, os.geteuid()) or str(uid) in _named(USERS):
        return True
    if os.geteuid() == 0 and str(uid) == os.environ.get("SUDO_UID"):
        return True
    # In a container that does not map root, /home and / belong to nobody.
    if is_above and uid == _unmapped():
        return True
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name in _named(USERS)
    return False


def _is_alone(gid: int) -> bool:
    """Return whether a group has no member but this user and root, as far as the system's lists say."""
    named = _named(GROUPS)
    if gid == 0 or str(gid) in named:
        return True
    ours = {"root"}
    with suppress(KeyError):
        ours.add(pwd.getpwuid(os.geteuid()).pw_name)
    try:
        group = grp.getgrgid(gid)
    except KeyError:  # of a container's volume: nobody here is in it but who was started with it
        members = set()
    else:
        if group.gr_name in named:
            return True
        members = set(group.gr_mem)
    members |= {user.pw_name for user in pwd.getpwall() if user.pw_gid == gid}
    return members <= ours


def _trusts_everybody() -> bool:
    return sys.platform == "win32" or "*" in _named(USERS)


def _named(variable: str) -> frozenset[str]:
    return frozenset(filter(None, (one.strip() for one in os.environ.get(variable, "").split(","))))


def _unmapped() -> int | None:
    """Return the user that all others look like in a user namespace that knows only some; None elsewhere.

    Source: https://man7.org/linux/man-pages/man7/user_namespaces.7.html (Unmapped user and group IDs)
    """
    try:
        mapped = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
        return None if mapped == ["0", "0", _ALL_IDS] else int(_OVERFLOW.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
